/* base: what a broken invariant looks like from outside. */
#include "testing.h"

#include <signal.h>

#include "base.h"
#include "child.h"

static void panic(void) { weft_panic("slot %d is %s", 7, "lost"); }

static void panic_at_length(void)
{
    static char text[2000];
    memset(text, 'p', sizeof(text) - 1);
    weft_panic("%s", text);
}

Test(base, panic_says_what_is_broken_and_aborts)
{
    struct child child = child_run(panic);
    cr_assert(child_died_by(&child, SIGABRT));
    cr_assert_str_eq(child.text, "weft: slot 7 is lost\n");
    child = child_run(panic_at_length);
    cr_assert(child_died_by(&child, SIGABRT));
    cr_assert_eq(child.text[strlen(child.text) - 1], '\n', "cut, and still a line");
    cr_assert_gt(strlen(child.text), 400);
}

#ifdef WEFT_DEBUG
static void break_an_invariant(void)
{
    int slots = 2;
    weft_assert(slots == 3);
}

Test(base, assertion_says_where_and_what)
{
    struct child child = child_run(break_an_invariant);
    cr_assert(child_died_by(&child, SIGABRT));
    cr_assert_not_null(strstr(child.text, "test_base.c:"));
    cr_assert_not_null(strstr(child.text, ": break_an_invariant: invariant broken: slots == 3\n"), "%s", child.text);
}
#endif
