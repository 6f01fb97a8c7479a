// Included by emmalloc. bench/peers/emmalloc.c defines what emmalloc uses of it.
