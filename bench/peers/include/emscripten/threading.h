// emmalloc includes it; bench/peers/emmalloc.c defines what it uses of it.
