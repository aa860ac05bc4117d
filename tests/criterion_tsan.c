/* Linked into Criterion programs under ThreadSanitizer.
 *
 * Criterion puts an arena shared with its children at 0x200000000000 + (rand_r() & 0x3fffff) * 2^24, where ThreadSanitizer mostly has
 * something else and aborts. This rand_r, found before libc's, keeps the arena within 0x550000000000 ... 0x550fff000000,
 * which ThreadSanitizer's map of x86-64 leaves to the program. */
#include <stdlib.h>

int rand_r(unsigned *seed)
{
    *seed = *seed * 1103515245U + 12345U;
    return (int)(0x350000U | (*seed >> 16 & 0xfffU));
}
