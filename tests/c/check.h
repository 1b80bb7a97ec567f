// What the C tests share: checks that name the line, and a runtime in a home of its own.
#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE
#include <boxlite.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAIL(...)                                                                                  \
    do {                                                                                           \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                            \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fprintf(stderr, "\n");                                                                     \
        exit(1);                                                                                   \
    } while (0)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            FAIL("not true: %s", #condition);                                                      \
    } while (0)

// A call that must succeed. Uses a variable `error`.
#define OK(call)                                                                                   \
    do {                                                                                           \
        boxlite_status status_ = (call);                                                           \
        if (status_ != BOXLITE_OK)                                                                 \
            FAIL("%s: %s: %s", #call, boxlite_status_name(status_), boxlite_error_message(error)); \
    } while (0)

// A call that must fail in one way, with a message that contains `text`.
#define FAILS(call, wanted, text)                                                                  \
    do {                                                                                           \
        boxlite_status status_ = (call);                                                           \
        if (status_ != (wanted))                                                                   \
            FAIL("%s: %s: %s", #call, boxlite_status_name(status_), boxlite_error_message(error)); \
        CHECK(boxlite_error_code(error) == (wanted));                                              \
        if (!strstr(boxlite_error_message(error), text))                                           \
            FAIL("%s: the message has no '%s': %s", #call, text, boxlite_error_message(error));    \
        boxlite_error_free(error);                                                                 \
        error = NULL;                                                                              \
    } while (0)

static boxlite_error *error;
static char home[64];

static inline const char *image(const char *name)
{
    static char path[4][512];
    static int next;
    char *slot = path[next++ % 4];
    snprintf(slot, sizeof path[0], "%s/%s", getenv("BOXLITE_TEST_IMAGES"), name);
    return slot;
}

// Options of a runtime in the home, which is made if there is none.
static inline boxlite_runtime_options *in_home(void)
{
    boxlite_runtime_options *options;
    if (!*home) {
        strcpy(home, "/tmp/boxlite-test-XXXXXX");
        CHECK(mkdtemp(home));
    }
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    return options;
}

static inline boxlite_runtime *open_runtime(void)
{
    boxlite_runtime_options *options = in_home();
    boxlite_runtime *runtime;
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

static inline void wait_op(boxlite_op *op)
{
    OK(boxlite_op_wait(op, 120000, &error));
    boxlite_op_free(op);
}

static inline boxlite_box *create_box(boxlite_runtime *runtime, boxlite_box_options *options)
{
    boxlite_op *op;
    boxlite_box *box;
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    OK(boxlite_op_wait(op, 120000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    return box;
}

static inline boxlite_box *new_box(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    return create_box(runtime, options);
}

static inline void remove_box(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_remove(runtime, boxlite_box_id(box), true, &op, &error));
    wait_op(op);
    boxlite_box_free(box);
}

// A box as it is now; the caller frees what it gets.
static inline boxlite_box_info *inspect(boxlite_box *box)
{
    boxlite_op *op;
    boxlite_box_info *info;
    OK(boxlite_box_inspect(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info(op, &info, &error));
    boxlite_op_free(op);
    return info;
}

// Starts a box, which has to come up in the way that a boxlite_boot says.
static inline void start_as(boxlite_box *box, int32_t boot)
{
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
    boxlite_box_info *info = inspect(box);
    if (boxlite_box_info_boot(info) != boot)
        FAIL("boot %d instead of %d", (int)boxlite_box_info_boot(info), (int)boot);
    boxlite_box_info_free(info);
}

static inline int32_t status_of(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    int32_t status = boxlite_box_info_status(info);
    boxlite_box_info_free(info);
    return status;
}

static inline boxlite_exec *start_with(boxlite_box *box, boxlite_exec_options *options)
{
    boxlite_op *op;
    boxlite_exec *exec;
    OK(boxlite_box_exec(box, options, &op, &error));
    boxlite_exec_options_free(options);
    OK(boxlite_op_wait(op, 120000, &error));
    OK(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);
    return exec;
}

static inline boxlite_exec_options *shell(const char *script)
{
    boxlite_exec_options *options;
    const char *argv[] = {"sh", "-c", script};
    OK(boxlite_exec_options_new(argv, 3, &options, &error));
    return options;
}

static inline boxlite_exec *start(boxlite_box *box, const char *script)
{
    return start_with(box, shell(script));
}

// Growing bytes.
typedef struct {
    uint8_t *data;
    size_t length;
} bytes;

static inline void append(void *user_data, const uint8_t *data, size_t length)
{
    bytes *b = user_data;
    b->data = realloc(b->data, b->length + length + 1);
    CHECK(b->data);
    memcpy(b->data + b->length, data, length);
    b->length += length;
    b->data[b->length] = 0;
}

// Waits for an exec with both outputs gathered; frees it.
static inline int32_t finish(boxlite_exec *exec, bytes *out, bytes *err)
{
    int32_t code = -2;
    OK(boxlite_exec_on_stdout(exec, append, out, NULL, &error));
    OK(boxlite_exec_on_stderr(exec, append, err, NULL, &error));
    OK(boxlite_exec_wait(exec, 120000, &code, &error));
    boxlite_exec_free(exec);
    return code;
}

// The output of a script in a box; the caller frees it.
static inline char *output_of(boxlite_box *box, const char *script)
{
    bytes out = {0}, err = {0};
    int32_t code = finish(start(box, script), &out, &err);
    if (code != 0 || !out.data)
        FAIL("%s: code %d, stderr '%s'", script, (int)code, err.data ? (char *)err.data : "");
    free(err.data);
    return (char *)out.data;
}

// Runs a script and compares what it prints on stdout.
#define PRINTS(box, script, wanted)                                                                \
    do {                                                                                           \
        bytes out_ = {0}, err_ = {0};                                                              \
        int32_t code_ = finish(start(box, script), &out_, &err_);                                  \
        if (code_ != 0 || !out_.data || strcmp((char *)out_.data, wanted))                         \
            FAIL("%s: code %d, stdout '%s', stderr '%s'", script, (int)code_,                      \
                 out_.data ? (char *)out_.data : "", err_.data ? (char *)err_.data : "");          \
        free(out_.data);                                                                           \
        free(err_.data);                                                                           \
    } while (0)

// Runs callbacks until a condition holds, with a limit that only guards against hanging.
#define DISPATCH_UNTIL(runtime, condition)                                                         \
    do {                                                                                           \
        time_t began_ = time(NULL);                                                                \
        while (!(condition)) {                                                                     \
            boxlite_status status_ = boxlite_dispatch(runtime, 100, NULL, &error);                 \
            CHECK(status_ == BOXLITE_OK || (status_ == BOXLITE_TIMEOUT && !error));                \
            if (time(NULL) - began_ > 60)                                                          \
                FAIL("never true: %s", #condition);                                                \
        }                                                                                          \
    } while (0)

// Runs the callbacks that are due now.
static inline void dispatch_all(boxlite_runtime *runtime)
{
    while (boxlite_dispatch(runtime, 0, NULL, NULL) == BOXLITE_OK)
        ;
}

static inline void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static inline size_t count_boxes(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_info_list *list;
    OK(boxlite_box_list(runtime, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info_list(op, &list, &error));
    boxlite_op_free(op);
    size_t count = boxlite_info_list_count(list);
    boxlite_info_list_free(list);
    return count;
}

// The lines of `seq COUNT`.
static inline void check_numbers(const bytes *got, int count)
{
    char *expected = malloc((size_t)count * 8 + 1), *end = expected;
    CHECK(expected);
    for (int i = 1; i <= count; i++)
        end += sprintf(end, "%d\n", i);
    CHECK(got->length == (size_t)(end - expected));
    CHECK(count == 0 || !memcmp(got->data, expected, got->length));
    free(expected);
}

static inline int count_fds(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

// How many processes have this test's home on their command line: machines of ours. Each gets a
// signal, unless it is 0.
static inline int signal_machines(int signal)
{
    int count = 0;
    struct dirent *entry;
    DIR *dir = opendir("/proc");
    CHECK(dir);
    while ((entry = readdir(dir))) {
        char path[300], line[16384];
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        size_t length = fread(line, 1, sizeof line - 1, file);
        fclose(file);
        if (memmem(line, length, home, strlen(home))) {
            count++;
            if (signal)
                kill((pid_t)atoi(entry->d_name), signal);
        }
    }
    closedir(dir);
    return count;
}

static inline int count_machines(void)
{
    return signal_machines(0);
}

// Waits, with a limit that only guards against hanging.
#define EVENTUALLY(condition)                                                                      \
    do {                                                                                           \
        int tries_ = 0;                                                                            \
        while (!(condition)) {                                                                     \
            if (++tries_ > 12000)                                                                  \
                FAIL("never true: %s", #condition);                                                \
            nanosleep(&(struct timespec){0, 10000000}, NULL);                                      \
        }                                                                                          \
    } while (0)

// Frees the runtime, sees that nothing is left, and removes the home.
static inline void close_runtime(boxlite_runtime *runtime)
{
    boxlite_op *op;
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", home);
    CHECK(system(command) == 0);
    *home = 0;
}

#endif
