// Events: what happens to boxes is told once, in order, and to everybody who listens.
#include "check.h"

typedef struct {
    int32_t kind, code, signal;
    uint32_t exec;
    uint64_t lost, at;
    char id[32], name[64], text[512];
} seen;

// What one subscription was told, and how far it was looked at.
typedef struct {
    seen all[512];
    int count, next;
    boxlite_subscription *subscription, *freed_at_first;
    int destroyed;
} listener;

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
}

static void on_event(void *user_data, const boxlite_event *event)
{
    listener *l = user_data;
    CHECK(l->count < 512);
    seen *s = &l->all[l->count++];
    s->kind = boxlite_event_what(event);
    s->code = boxlite_event_code(event);
    s->signal = boxlite_event_signal(event);
    s->exec = boxlite_event_exec(event);
    s->lost = boxlite_event_lost(event);
    s->at = boxlite_event_microseconds(event);
    copy(s->id, sizeof s->id, boxlite_event_box_id(event));
    copy(s->name, sizeof s->name, boxlite_event_box_name(event));
    copy(s->text, sizeof s->text, boxlite_event_text(event));
    if (getenv("BOXLITE_TEST_VERBOSE"))
        fprintf(stderr, "%s %s %s %u %d %d %s\n", boxlite_event_kind_name(s->kind), s->id, s->name, s->exec,
                (int)s->code, (int)s->signal, s->text);
    if (l->freed_at_first) {
        boxlite_subscription_free(l->freed_at_first);
        l->freed_at_first = NULL;
    }
}

static void on_destroy(void *user_data)
{
    ((listener *)user_data)->destroyed++;
}

static void listen_to(boxlite_runtime *runtime, listener *l, uint32_t capacity)
{
    memset(l, 0, sizeof *l);
    OK(boxlite_runtime_subscribe(runtime, capacity, on_event, l, on_destroy, &l->subscription, &error));
}

static void stop_listening(listener *l)
{
    boxlite_subscription_free(l->subscription);
    CHECK(l->destroyed == 1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

// The next event is of this kind.
static const seen *expect_(boxlite_runtime *runtime, listener *l, int32_t kind, int line)
{
    DISPATCH_UNTIL(runtime, l->count > l->next);
    const seen *s = &l->all[l->next++];
    if (s->kind != kind)
        FAIL("line %d: '%s' (%s) instead of '%s'", line, boxlite_event_kind_name(s->kind), s->text,
             boxlite_event_kind_name(kind));
    CHECK(l->next == 1 || s->at >= s[-1].at);
    CHECK(s->at <= now() && s->at > now() - 600 * 1000000ULL);
    return s;
}
#define EXPECT(l, kind) expect_(runtime, l, kind, __LINE__)

static void nothing_more(boxlite_runtime *runtime, listener *l)
{
    dispatch_all(runtime);
    if (l->count != l->next)
        FAIL("'%s' (%s) came too", boxlite_event_kind_name(l->all[l->next].kind), l->all[l->next].text);
}

static boxlite_box *named(boxlite_runtime *runtime, const char *name)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, name, &error));
    return create_box(runtime, options);
}

static void start_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
}

static void stop_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
}

static void pause_and_resume(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_pause(box, &op, &error));
    wait_op(op);
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
}

static int32_t ends_with(boxlite_box *box, const char *script)
{
    int32_t code;
    boxlite_exec *exec = start(box, script);
    OK(boxlite_exec_wait(exec, 60000, &code, &error));
    boxlite_exec_free(exec);
    return code;
}

static void a_life_is_told_in_order_and_to_everybody(boxlite_runtime *runtime)
{
    boxlite_op *op;
    const char *missing[] = {"/no/such/program", "secret argument"};
    boxlite_exec_options *options;
    static listener both[2];
    listen_to(runtime, &both[0], 0);
    listen_to(runtime, &both[1], 65536);
    boxlite_box *box = named(runtime, "life");
    char id[32];
    copy(id, sizeof id, boxlite_box_id(box));
    start_box(box);
    CHECK(ends_with(box, "exit 3") == 3);
    CHECK(ends_with(box, "kill -9 $$") == 137);
    OK(boxlite_exec_options_new(missing, 2, &options, &error));
    boxlite_exec *exec = start_with(box, options);
    OK(boxlite_exec_wait(exec, 60000, NULL, &error));
    boxlite_exec_free(exec);
    pause_and_resume(box);
    stop_box(box);
    stop_box(box); // changes nothing
    start_box(box);
    exec = start(box, "sleep 600");
    CHECK(signal_machines(SIGKILL) == 1);
    int32_t code = 0;
    CHECK(boxlite_exec_wait(exec, 60000, &code, NULL) != BOXLITE_OK);
    boxlite_exec_free(exec);
    EVENTUALLY(status_of(box) == BOXLITE_BOX_FAILED);
    OK(boxlite_box_remove(runtime, id, false, &op, &error));
    wait_op(op);
    boxlite_box_free(box);

    for (int i = 0; i < 2; i++) {
        listener *l = &both[i];
        const seen *s = EXPECT(l, BOXLITE_EVENT_BOX_CREATED);
        CHECK(!strcmp(s->id, id) && !strcmp(s->name, "life") && !*s->text && s->exec == 0);
        EXPECT(l, BOXLITE_EVENT_BOX_STARTED);
        s = EXPECT(l, BOXLITE_EVENT_EXEC_STARTED);
        uint32_t first = s->exec;
        CHECK(first != 0 && !strcmp(s->text, "sh"));
        s = EXPECT(l, BOXLITE_EVENT_EXEC_ENDED);
        CHECK(s->exec == first && s->code == 3 && s->signal == 0 && !*s->text);
        s = EXPECT(l, BOXLITE_EVENT_EXEC_STARTED);
        CHECK(s->exec != first);
        s = EXPECT(l, BOXLITE_EVENT_EXEC_ENDED);
        CHECK(s->code == 137 && s->signal == 9);
        s = EXPECT(l, BOXLITE_EVENT_EXEC_STARTED);
        CHECK(!strcmp(s->text, "/no/such/program"));
        s = EXPECT(l, BOXLITE_EVENT_EXEC_ENDED);
        CHECK(s->code == 127 && strstr(s->text, "/no/such/program") && !strstr(s->text, "secret"));
        s = EXPECT(l, BOXLITE_EVENT_BOX_PAUSED);
        CHECK(!*s->text);
        EXPECT(l, BOXLITE_EVENT_BOX_RESUMED);
        EXPECT(l, BOXLITE_EVENT_BOX_STOPPED);
        EXPECT(l, BOXLITE_EVENT_BOX_STARTED);
        uint32_t last = EXPECT(l, BOXLITE_EVENT_EXEC_STARTED)->exec;
        s = EXPECT(l, BOXLITE_EVENT_EXEC_ENDED);
        CHECK(s->exec == last && s->code == -1 && *s->text);
        s = EXPECT(l, BOXLITE_EVENT_BOX_FAILED);
        CHECK(strstr(s->text, "signal 9"));
        s = EXPECT(l, BOXLITE_EVENT_BOX_REMOVED);
        CHECK(!strcmp(s->id, id) && !strcmp(s->name, "life"));
        nothing_more(runtime, l);
        stop_listening(l);
    }
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_BOXES_CREATED) == 1);
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_BOXES_STOPPED) == 1);
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_BOXES_FAILED) == 1);
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_COMMANDS_EXECUTED) == 3);
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_EXEC_ERRORS) == 1);
}

static void a_start_that_fails_is_told(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box_options *options;
    static listener l;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_start_timeout_ms(options, 100, &error));
    OK(boxlite_box_options_set_cold_boot(options, true, &error));
    boxlite_box *box = create_box(runtime, options);
    listen_to(runtime, &l, 0);
    OK(boxlite_box_start(box, &op, &error));
    CHECK(boxlite_op_wait(op, 60000, NULL) == BOXLITE_TIMEOUT);
    boxlite_op_free(op);
    const seen *s = EXPECT(&l, BOXLITE_EVENT_BOX_FAILED);
    CHECK(*s->text && !*s->name && !strcmp(s->id, boxlite_box_id(box)));
    remove_box(runtime, box);
    EXPECT(&l, BOXLITE_EVENT_BOX_REMOVED);
    nothing_more(runtime, &l);
    stop_listening(&l);
}

static void what_does_not_fit_is_counted_in_its_place(boxlite_runtime *runtime)
{
    static listener l, all;
    boxlite_box *box = named(runtime, "overflow");
    start_box(box);
    listen_to(runtime, &l, 1);
    listen_to(runtime, &all, 100);
    for (int i = 0; i < 10; i++)
        CHECK(ends_with(box, "true") == 0);
    EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED);
    CHECK(EXPECT(&l, BOXLITE_EVENT_OVERFLOW)->lost == 19);
    nothing_more(runtime, &l);
    CHECK(!*l.all[1].id && !*l.all[1].name && l.all[0].lost == 0);
    // There is room again.
    CHECK(ends_with(box, "true") == 0);
    EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED);
    DISPATCH_UNTIL(runtime, l.count > l.next);
    const seen *s = &l.all[l.next++];
    CHECK(s->kind == BOXLITE_EVENT_EXEC_ENDED || (s->kind == BOXLITE_EVENT_OVERFLOW && s->lost == 1));
    nothing_more(runtime, &l);
    // Who has room misses nothing.
    for (int i = 0; i < 11; i++) {
        EXPECT(&all, BOXLITE_EVENT_EXEC_STARTED);
        EXPECT(&all, BOXLITE_EVENT_EXEC_ENDED);
    }
    remove_box(runtime, box);
    EXPECT(&all, BOXLITE_EVENT_BOX_STOPPED);
    EXPECT(&all, BOXLITE_EVENT_BOX_REMOVED);
    nothing_more(runtime, &all);
    stop_listening(&l);
    stop_listening(&all);
    FAILS(boxlite_runtime_subscribe(runtime, 65537, on_event, &l, NULL, &l.subscription, &error),
          BOXLITE_INVALID_ARGUMENT, "capacity");
    FAILS(boxlite_runtime_subscribe(runtime, 1, NULL, &l, NULL, &l.subscription, &error), BOXLITE_INVALID_ARGUMENT,
          "callback");
}

static void a_subscription_may_be_freed_in_its_own_callback(boxlite_runtime *runtime)
{
    static listener l, other;
    listen_to(runtime, &l, 0);
    listen_to(runtime, &other, 0);
    l.freed_at_first = l.subscription;
    boxlite_box *box = new_box(runtime);
    remove_box(runtime, box);
    EXPECT(&other, BOXLITE_EVENT_BOX_CREATED);
    EXPECT(&other, BOXLITE_EVENT_BOX_REMOVED);
    dispatch_all(runtime);
    CHECK(l.count == 1 && l.destroyed == 1);
    stop_listening(&other);
}

// Another runtime hears of what it does itself, and of what others do to a box that it uses.
static void another_runtime_hears_of_its_own(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *same;
    static listener l;
    boxlite_runtime *other = open_runtime();
    listen_to(other, &l, 0);
    boxlite_box *box = named(runtime, "shared");
    start_box(box);
    pause_and_resume(box);
    nothing_more(other, &l);
    OK(boxlite_box_get(other, "shared", &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &same, &error));
    boxlite_op_free(op);
    CHECK(ends_with(same, "exit 7") == 7);
    CHECK(ends_with(box, "exit 8") == 8);
    pause_and_resume(box);
    stop_box(box);
    expect_(other, &l, BOXLITE_EVENT_EXEC_STARTED, __LINE__);
    CHECK(expect_(other, &l, BOXLITE_EVENT_EXEC_ENDED, __LINE__)->code == 7);
    expect_(other, &l, BOXLITE_EVENT_BOX_PAUSED, __LINE__);
    expect_(other, &l, BOXLITE_EVENT_BOX_RESUMED, __LINE__);
    expect_(other, &l, BOXLITE_EVENT_BOX_STOPPED, __LINE__);
    // A box is told to be stopped before it is told to be started again, whoever was there first.
    start_box(box);
    stop_box(box);
    start_box(same);
    stop_box(same);
    expect_(other, &l, BOXLITE_EVENT_BOX_STARTED, __LINE__);
    expect_(other, &l, BOXLITE_EVENT_BOX_STOPPED, __LINE__);
    nothing_more(other, &l);
    boxlite_box_free(same);
    stop_listening(&l);
    boxlite_runtime_free(other);
    remove_box(runtime, box);
}

// A box that is used by two, one of which ends it and starts it again at once: the other's end is not
// lost over that.
static void no_end_is_lost_when_the_next_start_comes_at_once(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *same;
    static listener l;
    boxlite_runtime *other = open_runtime();
    boxlite_box *box = named(runtime, "again");
    OK(boxlite_box_get(other, "again", &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &same, &error));
    boxlite_op_free(op);
    listen_to(runtime, &l, 0);
    for (int i = 0; i < 5; i++) {
        start_box(box);
        stop_box(same);
    }
    start_box(box);
    remove_box(runtime, box);
    boxlite_box_free(same);
    boxlite_runtime_free(other);
    // Once for each, in turn.
    for (int i = 0; i < 6; i++) {
        EXPECT(&l, BOXLITE_EVENT_BOX_STARTED);
        EXPECT(&l, BOXLITE_EVENT_BOX_STOPPED);
    }
    EXPECT(&l, BOXLITE_EVENT_BOX_REMOVED);
    nothing_more(runtime, &l);
    stop_listening(&l);
}

static void who_does_not_answer_is_told(boxlite_runtime *runtime)
{
    static listener l;
    boxlite_box *box = named(runtime, "silent");
    start_box(box);
    listen_to(runtime, &l, 0);
    CHECK(signal_machines(SIGSTOP) == 1);
    CHECK(*EXPECT(&l, BOXLITE_EVENT_UNRESPONSIVE)->text);
    CHECK(signal_machines(SIGCONT) == 1);
    EXPECT(&l, BOXLITE_EVENT_RESPONSIVE);
    PRINTS(box, "echo again", "again\n");
    remove_box(runtime, box);
    stop_listening(&l);
}

static boxlite_box *with_main(boxlite_runtime *runtime, const char *script, const char *name)
{
    const char *argv[] = {"sh", "-c", script};
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, name, &error));
    OK(boxlite_box_options_set_main(options, argv, 3, &error));
    return create_box(runtime, options);
}

static void a_main_process_is_told_with_its_box(boxlite_runtime *runtime)
{
    boxlite_op *op;
    static listener l, there;
    boxlite_runtime *other = open_runtime();
    listen_to(runtime, &l, 0);
    listen_to(other, &there, 0);
    boxlite_box *box = with_main(runtime, "rm -f /go; touch /waits; until test -e /go; do sleep 0.1; done; exit 5", "main"), *same;
    EXPECT(&l, BOXLITE_EVENT_BOX_CREATED);
    start_box(box);
    EXPECT(&l, BOXLITE_EVENT_BOX_STARTED);
    const seen *s = EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED);
    CHECK(s->exec == 1 && !strcmp(s->text, "sh"));
    OK(boxlite_box_get(other, "main", &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &same, &error));
    boxlite_op_free(op);
    ends_with(same, "until test -e /waits; do sleep 0.1; done; touch /go");
    s = EXPECT(&l, BOXLITE_EVENT_EXEC_ENDED);
    CHECK(s->exec == 1 && s->code == 5 && s->signal == 0);
    CHECK(strstr(EXPECT(&l, BOXLITE_EVENT_BOX_STOPPED)->text, "code 5"));
    // Who came later hears of the end too. Its own command may have ended after the main process did.
    expect_(other, &there, BOXLITE_EVENT_EXEC_STARTED, __LINE__);
    uint32_t ended = 0;
    for (int i = 0; i < 2; i++) {
        s = expect_(other, &there, BOXLITE_EVENT_EXEC_ENDED, __LINE__);
        ended += s->exec == 1 && s->code == 5;
    }
    CHECK(ended == 1);
    CHECK(strstr(expect_(other, &there, BOXLITE_EVENT_BOX_STOPPED, __LINE__)->text, "code 5"));
    boxlite_box_free(same);
    // Whose end nobody saw.
    CHECK(ends_with(box, "true") == 0);
    CHECK(signal_machines(SIGKILL) == 1);
    EXPECT(&l, BOXLITE_EVENT_BOX_STARTED);
    CHECK(EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED)->exec == 1);
    EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED);
    CHECK(EXPECT(&l, BOXLITE_EVENT_EXEC_ENDED)->exec != 1);
    s = EXPECT(&l, BOXLITE_EVENT_EXEC_ENDED);
    CHECK(s->exec == 1 && s->code == -1 && strstr(s->text, "signal 9"));
    EXPECT(&l, BOXLITE_EVENT_BOX_FAILED);
    remove_box(runtime, box);
    EXPECT(&l, BOXLITE_EVENT_BOX_REMOVED);
    nothing_more(runtime, &l);
    nothing_more(other, &there);
    stop_listening(&l);
    stop_listening(&there);
    boxlite_runtime_free(other);
}

// Whoever started a detached command hears of its end, also without a handle on it.
static void a_detached_command_that_nobody_follows_is_told(boxlite_runtime *runtime)
{
    static listener l;
    boxlite_box *box = named(runtime, "forgotten");
    start_box(box);
    listen_to(runtime, &l, 0);
    for (int i = 0; i < 2; i++) {
        const char *scripts[] = {"until test -e /go; do sleep 0.1; done; exit 6", "sleep 600"};
        boxlite_exec_options *options = shell(scripts[i]);
        OK(boxlite_exec_options_set_detach(options, true, &error));
        boxlite_exec_free(start_with(box, options));
    }
    uint32_t first = EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED)->exec;
    uint32_t second = EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED)->exec;
    CHECK(ends_with(box, "touch /go") == 0);
    EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED);
    bool told = false;
    for (int i = 0; i < 2; i++) {
        const seen *s = EXPECT(&l, BOXLITE_EVENT_EXEC_ENDED);
        told |= s->exec == first && s->code == 6;
    }
    CHECK(told);
    CHECK(signal_machines(SIGKILL) == 1);
    const seen *s = EXPECT(&l, BOXLITE_EVENT_EXEC_ENDED);
    CHECK(s->exec == second && s->code == -1 && *s->text);
    EXPECT(&l, BOXLITE_EVENT_BOX_FAILED);
    remove_box(runtime, box);
    EXPECT(&l, BOXLITE_EVENT_BOX_REMOVED);
    nothing_more(runtime, &l);
    stop_listening(&l);
}

static void why_a_box_stopped_by_itself_is_told(boxlite_runtime *runtime)
{
    static listener l;
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_idle_stop_s(options, 1, &error));
    boxlite_box *box = create_box(runtime, options);
    listen_to(runtime, &l, 0);
    start_box(box);
    EXPECT(&l, BOXLITE_EVENT_BOX_STARTED);
    CHECK(strstr(EXPECT(&l, BOXLITE_EVENT_BOX_STOPPED)->text, "nothing ran"));
    remove_box(runtime, box);
    EXPECT(&l, BOXLITE_EVENT_BOX_REMOVED);
    nothing_more(runtime, &l);
    stop_listening(&l);
}

static void health_is_told_when_it_changes(boxlite_runtime *runtime)
{
    static listener l;
    const char *check[] = {"test", "-e", "/well"};
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_health_check(options, check, 3, 100, 0, 2, 0, &error));
    boxlite_box *box = create_box(runtime, options);
    listen_to(runtime, &l, 0);
    start_box(box);
    EXPECT(&l, BOXLITE_EVENT_BOX_STARTED);
    CHECK(strstr(EXPECT(&l, BOXLITE_EVENT_UNHEALTHY)->text, "2 health checks"));
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_health(info) == BOXLITE_HEALTH_UNHEALTHY);
    boxlite_box_info_free(info);
    CHECK(ends_with(box, "touch /well") == 0);
    EXPECT(&l, BOXLITE_EVENT_EXEC_STARTED);
    // The check may be faster than word of the command's end.
    int32_t kinds[2];
    for (int i = 0; i < 2; i++) {
        DISPATCH_UNTIL(runtime, l.count > l.next);
        kinds[i] = l.all[l.next++].kind;
    }
    CHECK(kinds[0] + kinds[1] == BOXLITE_EVENT_EXEC_ENDED + BOXLITE_EVENT_HEALTHY);
    stop_box(box);
    CHECK(!*EXPECT(&l, BOXLITE_EVENT_BOX_STOPPED)->text);
    nothing_more(runtime, &l);
    stop_listening(&l);
    remove_box(runtime, box);
}

// The subscription keeps its runtime, and is the last to let go of it.
static void a_subscription_keeps_its_runtime(void)
{
    static listener l;
    boxlite_runtime *runtime = open_runtime();
    listen_to(runtime, &l, 0);
    boxlite_runtime_free(runtime);
    stop_listening(&l);
    CHECK(l.count == 0);
}

int main(void)
{
    CHECK(!strcmp(boxlite_event_kind_name(BOXLITE_EVENT_BOX_FAILED), "box failed"));
    CHECK(!strcmp(boxlite_event_kind_name(14), "unknown"));
    boxlite_runtime *runtime = open_runtime();
    a_life_is_told_in_order_and_to_everybody(runtime);
    a_start_that_fails_is_told(runtime);
    what_does_not_fit_is_counted_in_its_place(runtime);
    a_subscription_may_be_freed_in_its_own_callback(runtime);
    another_runtime_hears_of_its_own(runtime);
    no_end_is_lost_when_the_next_start_comes_at_once(runtime);
    who_does_not_answer_is_told(runtime);
    a_main_process_is_told_with_its_box(runtime);
    a_detached_command_that_nobody_follows_is_told(runtime);
    why_a_box_stopped_by_itself_is_told(runtime);
    health_is_told_when_it_changes(runtime);
    a_subscription_keeps_its_runtime();
    close_runtime(runtime);
    return 0;
}
