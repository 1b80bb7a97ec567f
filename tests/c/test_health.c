// A command that says whether a box is well: counted, killed when it takes too long, asked also while
// nobody looks, and known to every program.
#include "program.h"

static boxlite_box *checked_box(boxlite_runtime *runtime, const char *script, uint64_t timeout_ms, uint32_t retries,
                                uint64_t start_period_ms)
{
    boxlite_box_options *options;
    const char *argv[] = {"sh", "-c", script};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_health_check(options, argv, 3, 100, timeout_ms, retries, start_period_ms, &error));
    boxlite_box *box = create_box(runtime, options);
    PRINTS(box, "echo up", "up\n");
    return box;
}

static int32_t health_of(boxlite_box *box, uint32_t *failures)
{
    boxlite_box_info *info = inspect(box);
    int32_t health = boxlite_box_info_health(info);
    *failures = boxlite_box_info_health_failures(info);
    // Whoever has said something has said when.
    if (health == BOXLITE_HEALTH_HEALTHY || health == BOXLITE_HEALTH_UNHEALTHY)
        CHECK(strlen(boxlite_box_info_last_check(info)) > strlen("2026-01-01T00:00:00"));
    boxlite_box_info_free(info);
    return health;
}

static bool is(boxlite_box *box, int32_t health)
{
    uint32_t failures;
    return health_of(box, &failures) == health;
}

// Another program that looks at the box whose name it reads.
static void looks(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_op *op;
    boxlite_info_list *list;
    OK(boxlite_box_list(runtime, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info_list(op, &list, &error));
    boxlite_op_free(op);
    CHECK(boxlite_info_list_count(list) == 1);
    CHECK(boxlite_box_info_health(boxlite_info_list_get(list, 0)) == BOXLITE_HEALTH_HEALTHY);
    boxlite_info_list_free(list);
    boxlite_runtime_free(runtime);
}

static void it_follows_what_the_command_says(boxlite_runtime *runtime)
{
    uint32_t failures;
    boxlite_box *box = checked_box(runtime, "test -e /well", 0, 3, 0);
    EVENTUALLY(health_of(box, &failures) == BOXLITE_HEALTH_UNHEALTHY && failures >= 3);
    // Nothing else happens to it.
    CHECK(status_of(box) == BOXLITE_BOX_RUNNING);
    PRINTS(box, "touch /well; echo ok", "ok\n");
    EVENTUALLY(health_of(box, &failures) == BOXLITE_HEALTH_HEALTHY && failures == 0);
    wait_done(start_program("looks", -1, -1));
    PRINTS(box, "rm /well; echo ok", "ok\n");
    EVENTUALLY(is(box, BOXLITE_HEALTH_UNHEALTHY));
    // A new run begins anew.
    boxlite_op *op;
    OK(boxlite_box_stop(box, 1000, &op, &error));
    wait_op(op);
    CHECK(is(box, BOXLITE_HEALTH_UNHEALTHY));
    PRINTS(box, "touch /well; echo ok", "ok\n");
    EVENTUALLY(is(box, BOXLITE_HEALTH_HEALTHY));
    remove_box(runtime, box);
}

static void one_that_hangs_is_killed_and_there_is_never_a_second(boxlite_runtime *runtime)
{
    boxlite_box *box = checked_box(runtime, "echo >> /asked; exec sleep 4711", 200, 2, 0);
    EVENTUALLY(is(box, BOXLITE_HEALTH_UNHEALTHY));
    // One that is killed early has not written.
    PRINTS(box, "until test $(wc -l < /asked || echo 0) -ge 2; do sleep 0.1; done; echo often; ps | grep -c '[s]leep 4711' > /n; test $(cat /n) -le 1 && echo one",
           "often\none\n");
    remove_box(runtime, box);
}

static int times_asked(boxlite_box *box)
{
    char *text = output_of(box, "touch /asked; wc -l < /asked");
    int times = atoi(text);
    free(text);
    return times;
}

static void a_box_that_is_starting_may_fail(boxlite_runtime *runtime)
{
    uint32_t failures;
    boxlite_box *box = checked_box(runtime, "echo >> /asked; test -e /well", 0, 1, 3600000);
    EVENTUALLY(times_asked(box) >= 5);
    CHECK(health_of(box, &failures) == BOXLITE_HEALTH_STARTING && failures == 0);
    PRINTS(box, "touch /well; echo ok", "ok\n");
    EVENTUALLY(is(box, BOXLITE_HEALTH_HEALTHY));
    PRINTS(box, "rm /well; echo ok", "ok\n");
    EVENTUALLY(is(box, BOXLITE_HEALTH_UNHEALTHY));
    remove_box(runtime, box);
}

static void a_command_that_does_not_exist_is_no_sign_of_health(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    const char *argv[] = {"/no/such/command"};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_health_check(options, argv, 1, 100, 0, 1, 0, &error));
    boxlite_box *box = create_box(runtime, options);
    CHECK(is(box, BOXLITE_HEALTH_NONE));
    PRINTS(box, "echo up", "up\n");
    EVENTUALLY(is(box, BOXLITE_HEALTH_UNHEALTHY));
    remove_box(runtime, box);
}

static void bad_checks_are_refused(void)
{
    boxlite_box_options *options;
    const char *argv[] = {"true"}, *empty[] = {""};
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    const boxlite_status bad = BOXLITE_INVALID_ARGUMENT;
    FAILS(boxlite_box_options_set_health_check(NULL, argv, 1, 0, 0, 0, 0, &error), bad, "options");
    FAILS(boxlite_box_options_set_health_check(options, NULL, 1, 0, 0, 0, 0, &error), bad, "argv");
    FAILS(boxlite_box_options_set_health_check(options, argv, 0, 0, 0, 0, 0, &error), bad, "argv");
    FAILS(boxlite_box_options_set_health_check(options, empty, 1, 0, 0, 0, 0, &error), bad, "argv");
    FAILS(boxlite_box_options_set_health_check(options, argv, 1, 99, 0, 0, 0, &error), bad, "interval_ms");
    FAILS(boxlite_box_options_set_health_check(options, argv, 1, 0, UINT64_MAX, 0, 0, &error), bad, "timeout_ms");
    FAILS(boxlite_box_options_set_health_check(options, argv, 1, 0, 0, 1001, 0, &error), bad, "retries");
    FAILS(boxlite_box_options_set_health_check(options, argv, 1, 0, 0, 0, UINT64_MAX, &error), bad, "start_period_ms");
    boxlite_box_options_free(options);
}

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, (program[]){{"looks", looks}, {NULL, NULL}});
    boxlite_runtime *runtime = open_runtime();
    bad_checks_are_refused();
    it_follows_what_the_command_says(runtime);
    one_that_hangs_is_killed_and_there_is_never_a_second(runtime);
    a_box_that_is_starting_may_fail(runtime);
    a_command_that_does_not_exist_is_no_sign_of_health(runtime);
    close_runtime(runtime);
    return 0;
}
