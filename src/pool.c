/* What a pool says of its slots, and how many it has (contract P). A plain group answers as a pool without bound. */
#include "group.h"

bool weft_pool_full(const struct weft_group *group) { return !group || weft_admission_free(&group->admission) == 0; }

size_t weft_pool_size(const struct weft_group *group) { return group ? a_load(&group->admission.size, RELAXED) : 0; }

size_t weft_pool_free_count(const struct weft_group *group) { return group ? weft_admission_free(&group->admission) : 0; }

int weft_pool_wait_available(struct weft_group *group, int64_t deadline)
{
    int rc = weft_group_usable(group);
    if (rc != 0) {
        return rc;
    }
    return weft_admission_watch(&group->admission, deadline);
}

int weft_pool_resize(struct weft_group *group, size_t size)
{
    int rc = weft_group_usable(group);
    if (rc == 0 && !weft_admission_bounded(&group->admission) && size != WEFT_UNLIMITED) {
        rc = -EINVAL; /* its members hold no slots that could be counted */
    }
    if (rc == 0 && weft_admission_bounded(&group->admission)) {
        weft_admission_resize(&group->admission, size);
    }
    return rc;
}
