"""Runs emcc with a port, as --use-port=FILE does from 3.1.60 on: ROOT PORT emcc's arguments..."""

import importlib.util
import sys

root, port_file, *arguments = sys.argv[1:]
sys.path.insert(0, root)
import emcc
from tools import ports, settings

spec = importlib.util.spec_from_file_location('rsbmalloc', port_file)
port = importlib.util.module_from_spec(spec)
spec.loader.exec_module(port)
port.name, port.deps, port.needed = 'rsbmalloc', [], lambda settings: True
port.process_dependencies = lambda settings: None
ports.ports.append(port)
ports.ports_by_name[port.name] = port
# Later releases have no USE_ before it, and ports may read it when they compile.
settings.settings.attrs.setdefault('PTHREADS', 0)
settings.COMPILE_TIME_SETTINGS.add('PTHREADS')
sys.exit(emcc.run(['emcc', *arguments]))
