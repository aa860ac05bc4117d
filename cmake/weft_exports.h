/* Included before each source of the library, by a compiler option. Everything there is hidden (-fvisibility=hidden) except what the
 * public headers declare; said here, so that they carry no attributes for it. weft.map says the same to the linker, by name. */
#pragma GCC visibility push(default)
#include <weft.h>
#pragma GCC visibility pop
