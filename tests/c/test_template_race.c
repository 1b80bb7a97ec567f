// Two programs that want the same machine template at the same moment, and one that is killed while
// it makes it.
#include "templates.h"

#define BOXES 5

static int to_child[2], to_parent[2];

// Starts boxes all at once; how many templates were made for them.
static uint64_t start_boxes(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *boxes[BOXES];
    boxlite_op *ops[BOXES];
    char byte = 'r';
    for (int i = 0; i < BOXES; i++)
        boxes[i] = new_box(runtime);
    // Both are ready: off they go.
    CHECK(write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
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
    uint64_t made = templates_made(runtime);
    boxlite_runtime_free(runtime);
    return made;
}

static pid_t fork_program(void (*program)(void))
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(240); // only guards against hanging
        program();
        exit(0);
    }
    return child;
}

static void tell_how_many(void)
{
    uint64_t made = start_boxes();
    CHECK(made <= 1);
    CHECK(write(to_parent[1], made ? "1" : "0", 1) == 1);
}

static void one_of_two_programs_makes_it(void)
{
    pid_t programs[2];
    char answers[2];
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    for (int i = 0; i < 2; i++)
        programs[i] = fork_program(tell_how_many);
    for (int i = 0; i < 2; i++)
        CHECK(read(to_parent[0], answers, 1) == 1 && *answers == 'r');
    CHECK(write(to_child[1], "go", 2) == 2);
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK(read(to_parent[0], &answers[i], 1) == 1);
        CHECK(waitpid(programs[i], &status, 0) == programs[i] && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    if (answers[0] + answers[1] != '0' + '1')
        FAIL("templates made: %c and %c", answers[0], answers[1]);
    CHECK(count_templates("", NULL) == 1 && count_templates(".new", NULL) == 0);
    close_runtime(open_runtime());
}

static void start_one(void)
{
    boxlite_runtime *runtime = open_runtime();
    boot(new_box(runtime)); // as far as it gets
}

// Whether there is a machine that a template is being made of.
static bool one_is_made(void)
{
    char name[256], path[400];
    struct stat file;
    if (count_templates(".new", name) != 1)
        return false;
    snprintf(path, sizeof path, "%s/templates/%s/ram", home, name);
    // It has written to its memory.
    return stat(path, &file) == 0 && file.st_blocks > 0;
}

// Kills a program while its supervisor makes a template; again, if that was faster than the signal.
static void kill_a_maker(void)
{
    for (int tries = 0; tries < 10; tries++) {
        pid_t child = fork_program(start_one);
        EVENTUALLY(one_is_made());
        CHECK(kill(child, SIGKILL) == 0);
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        EVENTUALLY(count_users() == 0);
        if (count_templates("", NULL) == 0)
            return;
        host("rm -r \"$T\"");
    }
    FAIL("no program was killed in time");
}

static void one_that_a_killed_program_began_is_made_by_the_next(void)
{
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    kill_a_maker();
    kill_a_maker();
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    CHECK(templates_made(runtime) == 1 && detours(runtime) == 0);
    CHECK(count_templates("", NULL) == 1);
    CHECK(count_templates(".new", NULL) == 0 && count_templates(".old", NULL) == 0);
    remove_box(runtime, box);
    EVENTUALLY(count_users() == 0);
    close_runtime(runtime);
}

// The one who waits for a template makes it, if whoever made it is killed meanwhile.
static void who_waits_takes_over(void)
{
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    pid_t child = fork_program(start_one);
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_op *op;
    EVENTUALLY(one_is_made());
    OK(boxlite_box_start(box, &op, &error));
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, NULL, 0) == child);
    wait_op(op);
    CHECK(boot_of(box) == BOXLITE_BOOT_RESTORED && detours(runtime) == 0);
    PRINTS(box, "echo up", "up\n");
    CHECK(count_templates("", NULL) == 1 && count_templates(".new", NULL) == 0);
    remove_box(runtime, box);
    EVENTUALLY(count_users() == 0);
    close_runtime(runtime);
}

int main(void)
{
    strcpy(home, "/tmp/boxlite-test-XXXXXX");
    CHECK(mkdtemp(home));
    one_of_two_programs_makes_it();
    one_that_a_killed_program_began_is_made_by_the_next();
    who_waits_takes_over();
    return 0;
}
