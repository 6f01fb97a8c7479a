// zlib and Zstandard compress pieces of the text on standard input and unpack them. Some results are kept for a while.
#include "input.h"
#include "zlib.h"
#include "zstd.h"
#include <stdlib.h>
#include <string.h>

int main(void) {
  size_t length = read_input();
  enum { STREAMS = 4 };
  unsigned char *packed[STREAMS] = {0};
  for (int i = 0; i < 300; i++) {
    size_t piece = 500 + (size_t)i * 7919 % 60000, from = (size_t)i * 104729 % (length - piece);
    z_stream out = {0};
    if (deflateInit2(&out, 1 + i % 9, Z_DEFLATED, 9 + i % 7, 1 + i % 9, Z_DEFAULT_STRATEGY) != Z_OK) return 1;
    size_t bound = deflateBound(&out, piece);
    unsigned char *buffer = malloc(bound);
    out.next_in = (unsigned char *)input + from;
    out.avail_in = piece;
    out.next_out = buffer;
    out.avail_out = bound;
    deflate(&out, Z_FINISH);
    size_t size = out.total_out;
    deflateEnd(&out);
    buffer = realloc(buffer, size);
    free(packed[i % STREAMS]);
    packed[i % STREAMS] = buffer;

    unsigned char *plain = malloc(piece);
    z_stream in = {.next_in = buffer, .avail_in = size, .next_out = plain, .avail_out = piece};
    inflateInit2(&in, 15);
    inflate(&in, Z_FINISH);
    inflateEnd(&in);
    if (memcmp(plain, input + from, piece)) return 1;

    if (i % 3 == 0) {
      size_t zbound = ZSTD_compressBound(piece);
      void *z = malloc(zbound);
      size_t zsize = ZSTD_compress(z, zbound, plain, piece, 1 + i % 12);
      if (ZSTD_isError(zsize) || ZSTD_decompress(plain, piece, z, zsize) != piece) return 1;
      free(z);
    }
    free(plain);
  }
  for (int i = 0; i < STREAMS; i++) free(packed[i]);
}
