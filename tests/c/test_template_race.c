// Two programs that want the same templates at the same moment, and one that is killed while it makes
// one: of a machine, or of its disk.
#include "program.h"
#include "templates.h"

#define BOXES 5

// How many templates were made.
typedef struct {
    uint8_t machines, disks;
} tally;

// Starts boxes all at once, when told so; how many templates were made for them.
static tally start_boxes(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *boxes[BOXES];
    boxlite_op *ops[BOXES];
    char byte = 'r';
    for (int i = 0; i < BOXES; i++)
        boxes[i] = new_box(runtime);
    // Both are ready: off they go.
    CHECK(write(1, &byte, 1) == 1 && read(0, &byte, 1) == 1);
    for (int i = 0; i < BOXES; i++)
        OK(boxlite_box_start(boxes[i], &ops[i], &error));
    for (int i = 0; i < BOXES; i++)
        wait_op(ops[i]);
    for (int i = 0; i < BOXES; i++) {
        CHECK(boot_of(boxes[i]) == BOXLITE_BOOT_RESTORED);
        PRINTS(boxes[i], "echo up", "up\n");
        remove_box(runtime, boxes[i]);
    }
    CHECK(detours(runtime) == 0);
    tally made = {(uint8_t)templates_made(runtime), (uint8_t)disk_templates_made(runtime)};
    boxlite_runtime_free(runtime);
    return made;
}

static void tell_how_many(void)
{
    tally made = start_boxes();
    CHECK(write(1, &made, sizeof made) == sizeof made);
}

// Neither makes what the other has made.
static void one_of_two_programs_makes_it(void)
{
    pid_t programs[2];
    int to_child[2], to_parent[2];
    tally sum = {0, 0};
    make_pipe(to_child);
    make_pipe(to_parent);
    for (int i = 0; i < 2; i++)
        programs[i] = start_program("tell_how_many", to_child[0], to_parent[1]);
    for (int i = 0; i < 2; i++) {
        char ready;
        CHECK(read(to_parent[0], &ready, 1) == 1 && ready == 'r');
    }
    CHECK(write(to_child[1], "go", 2) == 2);
    for (int i = 0; i < 2; i++) {
        tally made;
        CHECK(read(to_parent[0], &made, sizeof made) == sizeof made);
        wait_done(programs[i]);
        sum.machines += made.machines;
        sum.disks += made.disks;
    }
    if (sum.machines != 1 || sum.disks != 1)
        FAIL("templates made: %d of machines, %d of disks", sum.machines, sum.disks);
    for (int i = 0; i < 2; i++)
        CHECK(close(to_child[i]) == 0 && close(to_parent[i]) == 0);
    CHECK(count_templates("", NULL) == 2 && count_templates(".new", NULL) == 0);
    close_runtime(open_runtime());
}

// Makes a home; with a template of the machine, if the race is for that of the disk.
static void begin(bool of_disk)
{
    CHECK(*home == 0);
    boxlite_runtime *runtime = open_without_disks();
    if (of_disk) {
        boxlite_box *box = new_box(runtime);
        CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
        remove_box(runtime, box);
    }
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_users() == 0);
}

// All that there is to be in the end.
static void end(boxlite_runtime *runtime, boxlite_box *box)
{
    PRINTS(box, "echo up", "up\n");
    CHECK(boot_of(box) == BOXLITE_BOOT_RESTORED && detours(runtime) == 0);
    CHECK(count_templates("", NULL) == 2 && count_disk_templates() == 1);
    CHECK(count_templates(".new", NULL) == 0 && count_templates(".old", NULL) == 0);
    remove_box(runtime, box);
    EVENTUALLY(count_users() == 0);
    close_runtime(runtime);
}

static void start_one(void)
{
    boxlite_runtime *runtime = open_runtime();
    boot(new_box(runtime)); // as far as it gets
    for (;;)
        pause();
}

static void kill_program(pid_t child)
{
    CHECK(kill(child, SIGKILL) == 0);
    wait_killed(child);
}

// Begins again, after somebody was too fast.
static void drop_templates(bool of_disk)
{
    EVENTUALLY(count_users() == 0);
    host(of_disk ? "rm -r \"$D\"" : "rm -r $HOME_/templates");
}

// Kills a program while its supervisor makes a template; again, if that was faster than the signal.
static void kill_a_maker(bool of_disk)
{
    for (int tries = 0; tries < 10; tries++) {
        pid_t child = start_program("start_one", -1, -1);
        see_one_made(of_disk);
        kill_program(child);
        EVENTUALLY(count_users() == 0);
        if (count_templates("", NULL) == of_disk)
            return;
        drop_templates(of_disk);
    }
    FAIL("no program was killed in time");
}

static void one_that_a_killed_program_began_is_made_by_the_next(bool of_disk)
{
    begin(of_disk);
    kill_a_maker(of_disk);
    kill_a_maker(of_disk);
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    CHECK(templates_made(runtime) == !of_disk && disk_templates_made(runtime) == 1);
    end(runtime, box);
}

// The one who waits for a template makes it, if whoever made it is killed meanwhile.
static void who_waits_takes_over(bool of_disk)
{
    begin(of_disk);
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_op *op;
    pid_t child = start_program("start_one", -1, -1);
    for (int tries = 0; !see_one_made(of_disk); tries++) {
        CHECK(tries < 10);
        kill_program(child);
        drop_templates(of_disk);
        child = start_program("start_one", -1, -1);
    }
    OK(boxlite_box_start(box, &op, &error));
    kill_program(child);
    wait_op(op);
    end(runtime, box);
}

static const program programs[] = {{"tell_how_many", tell_how_many}, {"start_one", start_one}, {NULL, NULL}};

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, programs);
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    one_of_two_programs_makes_it();
    for (int of_disk = 0; of_disk < 2; of_disk++) {
        one_that_a_killed_program_began_is_made_by_the_next(of_disk);
        who_waits_takes_over(of_disk);
    }
    return 0;
}
