/* The one way out for states that no caller can have caused: say what is broken, then abort so that a core is left. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"

#define LINE_BYTES 512

_Noreturn void weft_panic(const char *format, ...)
{
    /* One buffer and one write: lines of several threads do not mix, and nothing is allocated in a process that is broken. */
    char line[LINE_BYTES] = "weft: ";
    size_t length = strlen(line);
    size_t room = sizeof(line) - length - 1; /* the newline */
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line + length, room, format, arguments);
    va_end(arguments);
    if (wanted > 0) {
        length += (size_t)wanted < room ? (size_t)wanted : room - 1;
    }
    line[length++] = '\n';
    os_write_stderr(line, length);
    abort();
}
