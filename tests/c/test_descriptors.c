// Few descriptors, none at all, and none that is lost.
#include "check.h"
#include <fcntl.h>
#include <sys/resource.h>

enum { MANY = 4096 };

static int fillers[MANY], filled;

static void use_up(void)
{
    while (filled < MANY && (fillers[filled] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        filled++;
    CHECK(filled < MANY && errno == EMFILE);
}

static void give_back(void)
{
    while (filled)
        close(fillers[--filled]);
}

static void none_are_lost(void)
{
    // The first runtime of a process opens descriptors that stay until it ends.
    close_runtime(open_runtime());
    int before = count_fds();
    for (int i = 0; i < 3; i++) {
        boxlite_runtime *runtime = open_runtime();
        boxlite_box *box = new_box(runtime);
        PRINTS(box, "echo first", "first\n");
        int running = count_fds();
        for (int j = 0; j < (i ? 2 : 20); j++) {
            boxlite_exec *exec = start(box, j % 2 ? "exit 3" : "cat /no/such/file");
            if (j % 3)
                OK(boxlite_exec_wait(exec, 60000, NULL, &error));
            boxlite_exec_free(exec);
        }
        CHECK(count_fds() == running);
        remove_box(runtime, box);
        close_runtime(runtime);
        EVENTUALLY(count_fds() == before);
    }
}

static void sixty_four_are_enough(void)
{
    struct rlimit old, few = {64, 64};
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    few.rlim_max = old.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime), *other = new_box(runtime);
    PRINTS(box, "echo few", "few\n");
    PRINTS(other, "echo few", "few\n");
    remove_box(runtime, other);
    remove_box(runtime, box);
    close_runtime(runtime);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
}

// The status of an operation that was started, or that could not be.
static boxlite_status outcome(boxlite_status status, boxlite_op **op)
{
    if (status == BOXLITE_OK) {
        boxlite_error_free(error);
        error = NULL;
        status = boxlite_op_wait(*op, 60000, &error);
        boxlite_op_free(*op);
    }
    return status;
}

static void exhausted(const char *what, boxlite_status status)
{
    if (status != BOXLITE_RESOURCE_EXHAUSTED || boxlite_error_errno(error) != EMFILE)
        FAIL("%s: %s, errno %d: %s", what, boxlite_status_name(status), boxlite_error_errno(error),
             boxlite_error_message(error));
    CHECK(*boxlite_error_message(error));
    boxlite_error_free(error);
    error = NULL;
}

static void without_any_it_says_so(void)
{
    struct rlimit old, few = {128, 128};
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    few.rlim_max = old.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    boxlite_runtime *runtime = open_runtime(), *second = NULL;
    boxlite_runtime_options *options;
    boxlite_box *box = new_box(runtime), *other = new_box(runtime);
    boxlite_box_options *box_options;
    boxlite_exec_options *command = shell("echo full");
    boxlite_op *op;
    bytes out = {0}, err = {0};
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    OK(boxlite_box_options_new(image("busybox"), &box_options, &error));
    PRINTS(box, "echo before", "before\n");
    size_t boxes = count_boxes(runtime);

    use_up();
    exhausted("open", boxlite_runtime_open(options, &second, &error));
    CHECK(!second);
    exhausted("start", outcome(boxlite_box_start(other, &op, &error), &op));
    exhausted("exec", outcome(boxlite_box_exec(other, command, &op, &error), &op));
    exhausted("create", outcome(boxlite_box_create(runtime, box_options, &op, &error), &op));
    // What needs none works.
    boxlite_exec *exec = start_with(box, command);
    CHECK(finish(exec, &out, &err) == 0 && !strcmp((char *)out.data, "full\n"));
    free(out.data);
    give_back();

    // With descriptors again, everything works again, and nothing half-made is there.
    CHECK(count_boxes(runtime) == boxes);
    PRINTS(box, "echo after", "after\n");
    PRINTS(other, "echo after", "after\n");
    OK(boxlite_runtime_open(options, &second, &error));
    boxlite_box *third = create_box(second, box_options);
    PRINTS(third, "echo third", "third\n");
    remove_box(second, third);
    boxlite_runtime_free(second);
    boxlite_runtime_options_free(options);
    remove_box(runtime, other);
    remove_box(runtime, box);
    close_runtime(runtime);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
}

int main(void)
{
    none_are_lost();
    sixty_four_are_enough();
    without_any_it_says_so();
    return 0;
}
