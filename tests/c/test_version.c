// What the library says of itself, and names of numbers. Nothing runs.
#include "check.h"

int main(void)
{
    CHECK(strcmp(boxlite_version(), BOXLITE_VERSION) == 0);
    CHECK(boxlite_version_number() == BOXLITE_VERSION_NUMBER);

    size_t count = 0;
    for (const char *name; (name = boxlite_feature(count)); count++)
        CHECK(boxlite_has_feature(name));
    CHECK(count > 0 && !boxlite_feature(SIZE_MAX));
    CHECK(boxlite_has_feature("run") && !boxlite_has_feature("ru") && !boxlite_has_feature(""));
    CHECK(!boxlite_has_feature(NULL) && !boxlite_has_feature("\xff"));

    CHECK(strcmp(boxlite_box_status_name(BOXLITE_BOX_RUNNING), "running") == 0);
    CHECK(strcmp(boxlite_box_status_name(BOXLITE_BOX_FAILED), "failed") == 0);
    CHECK(strcmp(boxlite_box_status_name(-1), "unknown") == 0);
    CHECK(strcmp(boxlite_status_name(BOXLITE_WOULD_BLOCK), "BOXLITE_WOULD_BLOCK") == 0);
    CHECK(strcmp(boxlite_status_name(63), "BOXLITE_UNKNOWN") == 0);
    return 0;
}
