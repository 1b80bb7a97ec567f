// Two hundred restores in a row, of one box and of new ones, without one failure; nothing is left of
// them.
#include "templates.h"

#define ROUNDS 200

// One more life of a box, which remembers how many it had.
static void live(boxlite_box *box, int lives)
{
    char wanted[64];
    start_box(box);
    CHECK(boot_of(box) == BOXLITE_BOOT_RESTORED);
    snprintf(wanted, sizeof wanted, "%d\n%d\n", lives, lives * 2);
    PRINTS(box, "echo x >> /lives; sync; wc -l < /lives; cat /lives | wc -c", wanted);
    stop_box(box);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    int fds = 0;
    for (int i = 0; i < ROUNDS; i++) {
        // Every fourth is a box that never ran.
        if (i % 4 == 3) {
            boxlite_box *fresh = new_box(runtime);
            live(fresh, 1);
            remove_box(runtime, fresh);
        } else {
            live(box, i - i / 4 + 1);
        }
        EVENTUALLY(count_machines() == 0);
        if (i == 3)
            fds = count_fds();
    }
    EVENTUALLY(count_users() == 0);
    if (count_fds() > fds)
        FAIL("%d descriptors at first, %d in the end", fds, count_fds());
    CHECK(counter(runtime, BOXLITE_COUNTER_RESTORED_STARTS) == ROUNDS);
    CHECK(counter(runtime, BOXLITE_COUNTER_COLD_STARTS) == 0);
    CHECK(templates_made(runtime) == 1 && disk_templates_made(runtime) == 1 && detours(runtime) == 0);
    CHECK(count_templates("", NULL) == 2 && count_templates(".old", NULL) == 0);
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
