"""A contributed port for Emscripten's --use-port (3.1.60 and later): links this package's library.

    emcc --use-port=node_modules/rsbmalloc/lib/wasm32-emscripten/rsbmalloc.py app.c

It lies beside the libraries that it names.
"""

import os

URL = 'npm:rsbmalloc'
DESCRIPTION = 'A small, fast, binned malloc'
LICENSE = 'MIT or Apache-2.0'

OPTIONS = {
  'variant': 'Which library: standard (the default), compact, or hardened',
}

VARIANTS = {'standard': '', 'compact': '-compact', 'hardened': '-hardened'}
HERE = os.path.dirname(os.path.abspath(__file__))

options = {'variant': 'standard'}


def handle_options(given, error_handler):
  for name, value in given.items():
    if value not in VARIANTS:
      error_handler(f'{name} must be one of {", ".join(VARIANTS)}, not {value}')
    options[name] = value


def get(ports, settings, shared):
  threads = '-mt' if settings.PTHREADS else ''
  library = os.path.join(HERE, f'librsbmallocc{threads}{VARIANTS[options["variant"]]}.a')
  if not os.path.exists(library):
    shared.exit_with_error(f'rsbmalloc: there is no {library}; choose another variant')
  return [library]


def clear(ports, settings, shared):
  pass  # nothing is built


def process_args(ports):
  return ['-isystem', os.path.join(HERE, '..', '..', 'include')]


def linker_setup(ports, settings):
  settings.MALLOC = 'none'


def show():
  return f'rsbmalloc (--use-port=rsbmalloc.py; {LICENSE})'
