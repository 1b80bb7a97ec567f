// A hundred boxes from one template, which has their disk mounted, and lives after the first, from a
// template that has none; each lot all at once: nothing that has to be unlike is alike.
#include "templates.h"

#define BOXES 100
#define RESTARTS 20
#define THINGS 6

static const char *things[THINGS] = {
    "/dev/urandom", "/dev/random", "/etc/machine-id", "the host name", "boot_id", "uuid"};

// One line for each thing, and the clock in the end.
static const char *script =
    "for i in /dev/urandom /dev/random; do head -c 32 $i | od -An -v -tx1 | tr -d ' \n'; echo; done\n"
    "cat /etc/machine-id; hostname\n"
    "cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid\n"
    "date +%s";

typedef struct {
    boxlite_box *box;
    boxlite_op *op;
    char *text, *lines[THINGS + 1];
    double skew;
} member;

// Of all boxes, and of those that were started again.
static member members[BOXES + RESTARTS];

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

// Starts some at the same time, all of them from templates.
static void start_these(member *some, int count)
{
    for (int i = 0; i < count; i++)
        OK(boxlite_box_start(some[i].box, &some[i].op, &error));
    for (int i = 0; i < count; i++) {
        OK(boxlite_op_wait(some[i].op, 500000, &error));
        boxlite_op_free(some[i].op);
        CHECK(boot_of(some[i].box) == BOXLITE_BOOT_RESTORED);
    }
}

static void start_all(boxlite_runtime *runtime)
{
    for (int i = 0; i < BOXES; i++)
        members[i].box = new_box(runtime);
    start_these(members, BOXES);
    CHECK(count_machines() >= BOXES);
    CHECK(templates_made(runtime) == 1 && disk_templates_made(runtime) == 1 && detours(runtime) == 0);
    CHECK(counter(runtime, BOXLITE_COUNTER_RESTORED_STARTS) == BOXES);
    CHECK(counter(runtime, BOXLITE_COUNTER_COLD_STARTS) == 0);
}

static void ask(member *m)
{
    m->text = output_of(m->box, script);
    double asked = now();
    char *rest = m->text;
    for (int i = 0; i < THINGS + 1; i++)
        CHECK((m->lines[i] = strsep(&rest, "\n")) && *m->lines[i]);
    for (int i = 0; i < 2; i++)
        CHECK(strlen(m->lines[i]) == 64);
    CHECK(strlen(m->lines[2]) == 32 && strlen(m->lines[4]) == 36 && strlen(m->lines[5]) == 36);
    m->skew = atof(m->lines[THINGS]) - asked;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// All values of all lives are unlike: also those of one box among themselves. A box keeps its name
// and its machine id, which are counted once.
static void all_are_unlike(int lives)
{
    static const char *values[(BOXES + RESTARTS) * THINGS];
    int count = 0;
    for (int i = 0; i < lives; i++)
        for (int k = 0; k < THINGS; k++)
            if (i < BOXES || (k != 2 && k != 3))
                values[count++] = members[i].lines[k];
    qsort(values, (size_t)count, sizeof *values, compare);
    for (int i = 1; i < count; i++) {
        if (strcmp(values[i - 1], values[i]))
            continue;
        for (int j = 0; j < lives * THINGS; j++)
            if (!strcmp(members[j / THINGS].lines[j % THINGS], values[i]))
                fprintf(stderr, "life %d, %s\n", j / THINGS, things[j % THINGS]);
        FAIL("all have %s", values[i]);
    }
}

static void clocks_are_right(int lives)
{
    double least = 1e9, most = -1e9, sum = 0;
    for (int i = 0; i < lives; i++) {
        double skew = members[i].skew;
        least = skew < least ? skew : least;
        most = skew > most ? skew : most;
        sum += skew;
        // A clock that went on from when the template was made would be seconds behind by now; one
        // that was never set, decades.
        if (skew < -5 || skew > 5)
            FAIL("the clock of life %d is %.3f s off", i, skew);
    }
    printf("clocks, whole seconds of the guest less the host: %.3f s to %.3f s, mean %.3f s\n", least, most, sum / lives);
}

// A restart gives a box new random numbers, and leaves it its name. Its disk was written to: it comes
// from a machine that has none.
static void a_restart_is_another_life(boxlite_runtime *runtime)
{
    member *again = members + BOXES;
    for (int i = 0; i < RESTARTS; i++) {
        again[i].box = members[i].box;
        stop_box(again[i].box);
    }
    start_these(again, RESTARTS);
    for (int i = 0; i < RESTARTS; i++)
        ask(&again[i]);
    for (int i = 0; i < RESTARTS; i++)
        for (int k = 2; k <= 3; k++)
            if (strcmp(again[i].lines[k], members[i].lines[k]))
                FAIL("%s was %s and is %s", things[k], members[i].lines[k], again[i].lines[k]);
    CHECK(templates_made(runtime) == 1 && disk_templates_made(runtime) == 1 && detours(runtime) == 0);
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    start_all(runtime);
    for (int i = 0; i < BOXES; i++)
        ask(&members[i]);
    all_are_unlike(BOXES);
    clocks_are_right(BOXES);
    a_restart_is_another_life(runtime);
    all_are_unlike(BOXES + RESTARTS);
    clocks_are_right(BOXES + RESTARTS);
    for (int i = 0; i < BOXES + RESTARTS; i++)
        free(members[i].text);
    for (int i = 0; i < BOXES; i++) {
        OK(boxlite_box_remove(runtime, boxlite_box_id(members[i].box), true, &members[i].op, &error));
    }
    for (int i = 0; i < BOXES; i++) {
        wait_op(members[i].op);
        boxlite_box_free(members[i].box);
    }
    CHECK(count_boxes(runtime) == 0);
    close_runtime(runtime);
    return 0;
}
