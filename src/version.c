/* The small services of weft.h: version, time, words for errors, option structs of any version. */
#include "task.h"

#include <limits.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *weft_version(void) { return TEXT(WEFT_VERSION_MAJOR) "." TEXT(WEFT_VERSION_MINOR) "." TEXT(WEFT_VERSION_PATCH); }

int64_t weft_now(void) { return os_now(); }

int64_t weft_after(int64_t ns)
{
    int64_t now = os_now(), then;
    if (__builtin_add_overflow(now, ns, &then)) { /* H27 */
        return WEFT_FOREVER;
    }
    return then > 0 ? then : 1; /* 0 would be NOWAIT, or "none" in an option */
}

const char *weft_strerror(int rc)
{
    int code = rc == INT_MIN ? INT_MAX : rc < 0 ? -rc : 0;
    switch (code) {
    case 0: return "success";
    case EAGAIN: return "no slot or channel space is free, and the call does not wait";
    case ETIMEDOUT: return "the wait ran out; what was waited for goes on";
    case ECANCELED: return "the caller was killed";
    case EDEADLK: return "the call would wait for itself";
    case ENOENT: return "not a member, or unknown";
    case EALREADY: return "already a member, started, dying or taken";
    case ESHUTDOWN: return "closed, or its runtime has ended";
    case EPERM: return "not allowed here";
    case EXDEV: return "a task of another runtime";
    default: break;
    }
    const char *text = strerrordesc_np(code);
    return text ? text : "unknown error";
}

int weft_options_read(void *into, size_t known, const void *from)
{
    size_t given = 0;
    if (!from) {
        memset(into, 0, known);
        return 0;
    }
    memcpy(&given, from, sizeof given);
    if (given < sizeof given) {
        return -EINVAL;
    }
    for (size_t i = known; i < given; i++) {
        if (((const unsigned char *)from)[i] != 0) {
            return -E2BIG; /* a newer caller uses what this library does not know */
        }
    }
    memset(into, 0, known);
    memcpy(into, from, given < known ? given : known);
    return 0;
}
