// Every function with bad arguments, outside and inside a callback: a status, never a crash.
#include "fixture.h"

enum { SLOTS = 4096 };

static int destroyed[SLOTS], slots;
static const char *function_now, *what_now;
// Which call each slot was for.
static const char *functions[SLOTS], *whats[SLOTS];

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            FAIL("%s: %s: not true: %s", function_now, what_now, #condition);                      \
    } while (0)

void at(const char *function, const char *what)
{
    function_now = function;
    what_now = what;
    if (getenv("BOXLITE_TEST_VERBOSE"))
        fprintf(stderr, "%s: %s\n", function, what);
}

void check_status(boxlite_status status, boxlite_error *const *given)
{
    EXPECT(strcmp(boxlite_status_name(status), "BOXLITE_UNKNOWN") != 0);
    EXPECT(status != BOXLITE_PANIC && status != BOXLITE_INTERNAL);
    if (!given)
        return;
    EXPECT(*given != POISON);
    // A dispatch that found nothing to do has no error to tell.
    bool nothing = status == BOXLITE_TIMEOUT && !strcmp(function_now, "boxlite_dispatch");
    EXPECT((*given != NULL) == (status != BOXLITE_OK && !nothing));
    if (*given) {
        EXPECT(boxlite_error_code(*given) == status);
        EXPECT(*boxlite_error_message(*given));
    }
}

void check_refused(boxlite_status status, const boxlite_error *refusal, const char *argument)
{
    const char *object = boxlite_error_object(refusal);
    if (status != BOXLITE_INVALID_ARGUMENT || !object || strcmp(object, argument) != 0 ||
        !strstr(boxlite_error_message(refusal), argument))
        FAIL("%s: %s: %s, object '%s': %s", function_now, what_now, boxlite_status_name(status),
             object ? object : "", boxlite_error_message(refusal));
}

void *slot(void)
{
    CHECK(slots < SLOTS);
    functions[slots] = function_now;
    whats[slots] = what_now;
    return &destroyed[slots++];
}

void count(void *user_data)
{
    if (user_data)
        ++*(int *)user_data;
}

static void nothing(void *user_data, boxlite_op *op)
{
    (void)user_data;
    (void)op;
}

void something_is_due(const fixture *f)
{
    OK(boxlite_op_on_complete(f->done, nothing, NULL, NULL, &error));
}

boxlite_error *make_error(const fixture *f)
{
    (void)f;
    boxlite_error *made;
    CHECK(boxlite_box_options_set_cpus(NULL, 1, &made) == BOXLITE_INVALID_ARGUMENT);
    return made;
}

boxlite_runtime_options *make_runtime_options(const fixture *f)
{
    (void)f;
    boxlite_runtime_options *made;
    OK(boxlite_runtime_options_new(&made, &error));
    OK(boxlite_runtime_options_set_home(made, home, &error));
    return made;
}

boxlite_box_options *make_box_options(const fixture *f)
{
    (void)f;
    boxlite_box_options *made;
    OK(boxlite_box_options_new("/no/such/image", &made, &error));
    return made;
}

boxlite_exec_options *make_exec_options(const fixture *f)
{
    (void)f;
    return shell("true");
}

boxlite_list_filter *make_list_filter(const fixture *f)
{
    (void)f;
    boxlite_list_filter *made;
    OK(boxlite_list_filter_new(&made, &error));
    return made;
}

static void ignore(void *user_data, const boxlite_event *event)
{
    (void)user_data;
    (void)event;
}

boxlite_subscription *make_subscription(const fixture *f)
{
    boxlite_subscription *made;
    OK(boxlite_runtime_subscribe(f->runtime, 1, ignore, NULL, NULL, &made, &error));
    return made;
}

// An operation that has completed; inside a callback it is waited for in turns, which may be.
static boxlite_op *completed(boxlite_op *op)
{
    EVENTUALLY(boxlite_op_is_done(op));
    return op;
}

boxlite_box_info *make_box_info(const fixture *f)
{
    boxlite_op *op;
    boxlite_box_info *made;
    OK(boxlite_box_inspect(f->box, &op, &error));
    OK(boxlite_op_take_info(completed(op), &made, &error));
    boxlite_op_free(op);
    return made;
}

boxlite_info_list *make_info_list(const fixture *f)
{
    boxlite_op *op;
    boxlite_info_list *made;
    OK(boxlite_box_list(f->runtime, &op, &error));
    OK(boxlite_op_take_info_list(completed(op), &made, &error));
    boxlite_op_free(op);
    return made;
}

boxlite_exec_list *make_exec_list(const fixture *f)
{
    boxlite_op *op;
    boxlite_exec_list *made;
    OK(boxlite_box_list_execs(f->box, &op, &error));
    OK(boxlite_op_take_exec_list(completed(op), &made, &error));
    boxlite_op_free(op);
    return made;
}

// Nobody waited for the pauses and resumptions of before: they come in any order, and perhaps only now.
boxlite_snapshot *make_snapshot(const fixture *f)
{
    static int count;
    char name[32];
    boxlite_op *op;
    boxlite_snapshot *made = NULL;
    snprintf(name, sizeof name, "made %d", count++);
    while (!made) {
        OK(boxlite_box_resume(f->box, &op, &error));
        boxlite_op_free(completed(op));
        OK(boxlite_box_snapshot_create(f->box, name, &op, &error));
        boxlite_status status = boxlite_op_take_snapshot(completed(op), &made, NULL);
        CHECK(status == BOXLITE_OK || status == BOXLITE_INVALID_STATE);
        boxlite_op_free(op);
    }
    return made;
}

boxlite_snapshot_list *make_snapshot_list(const fixture *f)
{
    boxlite_op *op;
    boxlite_snapshot_list *made;
    OK(boxlite_box_snapshot_list(f->box, &op, &error));
    OK(boxlite_op_take_snapshot_list(completed(op), &made, &error));
    boxlite_op_free(op);
    return made;
}

boxlite_file_list *make_file_list(const fixture *f)
{
    boxlite_op *op;
    boxlite_file_list *made;
    OK(boxlite_runtime_list_files(f->runtime, &op, &error));
    OK(boxlite_op_take_file_list(completed(op), &made, &error));
    boxlite_op_free(op);
    return made;
}

boxlite_export_options *make_export_options(const fixture *f)
{
    boxlite_export_options *made;
    (void)f;
    OK(boxlite_export_options_new(&made, &error));
    return made;
}

boxlite_import_options *make_import_options(const fixture *f)
{
    boxlite_import_options *made;
    (void)f;
    OK(boxlite_import_options_new(&made, &error));
    return made;
}

boxlite_output *make_output(const fixture *f)
{
    boxlite_op *op;
    boxlite_output *made;
    boxlite_exec_options *options = shell("echo text");
    OK(boxlite_box_run(f->box, options, 100, &op, &error));
    boxlite_exec_options_free(options);
    OK(boxlite_op_take_output(completed(op), &made, &error));
    boxlite_op_free(op);
    return made;
}

boxlite_metrics *make_metrics(const fixture *f)
{
    boxlite_op *op;
    boxlite_metrics *made;
    OK(boxlite_runtime_metrics(f->runtime, &op, &error));
    OK(boxlite_op_take_metrics(completed(op), &made, &error));
    boxlite_op_free(op);
    return made;
}

boxlite_text *make_text(const fixture *f)
{
    boxlite_op *op;
    boxlite_text *made;
    OK(boxlite_runtime_metrics_text(f->runtime, &op, &error));
    OK(boxlite_op_take_text(completed(op), &made, &error));
    boxlite_op_free(op);
    return made;
}

static void add_execs(fixture *f)
{
    boxlite_exec_options *options = shell("echo out; echo err >&2; exec cat");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    f->exec = start_with(f->box, options);
    f->ended = start(f->box, "exit 3");
    OK(boxlite_exec_wait(f->ended, 60000, NULL, &error));
}

static void free_execs(fixture *f)
{
    boxlite_exec_free(f->exec);
    boxlite_exec_free(f->ended);
}

static void on_progress(void *user_data, const boxlite_progress *progress)
{
    fixture *f = user_data;
    if (f->progress)
        return;
    f->progress = progress;
    CHECK(boxlite_progress_stage(progress) && *boxlite_progress_stage(progress));
    CHECK(call_everything(f) > 50);
}

static void on_event(void *user_data, const boxlite_event *event)
{
    fixture *f = user_data;
    if (f->event || boxlite_event_what(event) != BOXLITE_EVENT_EXEC_STARTED)
        return;
    f->event = event;
    CHECK(!strcmp(boxlite_event_box_id(event), boxlite_box_id(f->box)) && boxlite_event_text(event));
    CHECK(call_everything(f) > 50);
}

int main(void)
{
    fixture f = {.runtime = open_runtime()};
    setenv("BOXLITE_HOME", home, 1);
    f.box = new_box(f.runtime);
    f.runtime_options = make_runtime_options(&f);
    f.box_options = make_box_options(&f);
    f.exec_options = make_exec_options(&f);
    f.list_filter = make_list_filter(&f);
    OK(boxlite_box_list(f.runtime, &f.op, &error));
    OK(boxlite_op_wait(f.op, 60000, &error));
    OK(boxlite_box_list(f.runtime, &f.done, &error));
    OK(boxlite_op_wait(f.done, 60000, &error));
    f.box_info = make_box_info(&f);
    f.info_list = make_info_list(&f);
    f.snapshot = make_snapshot(&f);
    f.snapshot_list = make_snapshot_list(&f);
    f.file_list = make_file_list(&f);
    CHECK(f.stored_file = boxlite_file_list_get(f.file_list, 0));
    f.export_options = make_export_options(&f);
    f.import_options = make_import_options(&f);
    f.output = make_output(&f);
    f.metrics = make_metrics(&f);
    f.text = make_text(&f);
    f.error = make_error(&f);
    add_execs(&f);
    f.exec_list = make_exec_list(&f);
    CHECK(f.exec_info = boxlite_exec_list_get(f.exec_list, 0));
    CHECK(call_everything(&f) > 50);

    // Once more inside a callback, where dispatch and wait are refused and nothing else is.
    boxlite_op *op;
    free_execs(&f);
    boxlite_box *other = new_box(f.runtime);
    OK(boxlite_box_start(f.box, &op, &error));
    wait_op(op);
    add_execs(&f);
    OK(boxlite_box_start(other, &op, &error));
    OK(boxlite_op_on_progress(op, on_progress, &f, NULL, &error));
    while (!f.progress)
        OK(boxlite_dispatch(f.runtime, 60000, NULL, &error));
    wait_op(op);
    remove_box(f.runtime, other);

    // And inside that of an event.
    boxlite_subscription *subscription;
    free_execs(&f);
    f.progress = NULL;
    OK(boxlite_box_start(f.box, &op, &error));
    wait_op(op);
    OK(boxlite_runtime_subscribe(f.runtime, 0, on_event, &f, NULL, &subscription, &error));
    add_execs(&f);
    DISPATCH_UNTIL(f.runtime, f.event);
    boxlite_subscription_free(subscription);
    f.event = NULL;

    free_execs(&f);
    boxlite_op_free(f.op);
    boxlite_op_free(f.done);
    boxlite_box_info_free(f.box_info);
    boxlite_info_list_free(f.info_list);
    boxlite_exec_list_free(f.exec_list);
    boxlite_snapshot_free(f.snapshot);
    boxlite_snapshot_list_free(f.snapshot_list);
    boxlite_file_list_free(f.file_list);
    boxlite_export_options_free(f.export_options);
    boxlite_import_options_free(f.import_options);
    boxlite_output_free(f.output);
    boxlite_metrics_free(f.metrics);
    boxlite_text_free(f.text);
    boxlite_error_free(f.error);
    boxlite_runtime_options_free(f.runtime_options);
    boxlite_box_options_free(f.box_options);
    boxlite_exec_options_free(f.exec_options);
    boxlite_list_filter_free(f.list_filter);
    remove_box(f.runtime, f.box);
    close_runtime(f.runtime);
    CHECK(slots > 20);
    for (int i = 0; i < slots; i++)
        if (destroyed[i] != 1)
            FAIL("%s: %s: user data was destroyed %d times", functions[i], whats[i], destroyed[i]);
    return 0;
}
