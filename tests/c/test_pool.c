// Machines that wait for boxes: a box that gets one is the box it was asked to be, none is ever needed,
// and none is left.
#include "program.h"

static boxlite_runtime *open_pool(uint32_t machines, uint32_t memory_mib)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    if (!*home) {
        strcpy(home, "/tmp/boxlite-test-XXXXXX");
        CHECK(mkdtemp(home));
        // What a supervisor keeps of the environment tells whose it is.
        setenv("TMPDIR", home, 1);
    }
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    OK(boxlite_runtime_options_set_pool_size(options, machines, &error));
    OK(boxlite_runtime_options_set_pool_machine(options, 1, memory_mib, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

// Supervisors of this test that run, and the first few of their numbers.
static int find_supervisors(pid_t found[2])
{
    char wanted[80];
    struct dirent *entry;
    int count = 0;
    DIR *dir = opendir("/proc");
    CHECK(dir);
    snprintf(wanted, sizeof wanted, "TMPDIR=%s", home);
    while ((entry = readdir(dir))) {
        char path[300], text[4096];
        snprintf(path, sizeof path, "/proc/%s/environ", entry->d_name);
        FILE *file = atoi(entry->d_name) == getpid() ? NULL : fopen(path, "r");
        if (!file)
            continue;
        size_t length = fread(text, 1, sizeof text, file);
        fclose(file);
        // A program that was started by this one has it only in its memory.
        if (memmem(text, length, wanted, strlen(wanted))) {
            if (count < 2)
                found[count] = (pid_t)atoi(entry->d_name);
            count++;
        }
    }
    closedir(dir);
    return count;
}

static int count_supervisors(void)
{
    pid_t found[2];
    return find_supervisors(found);
}

// The machine of a supervisor: its only child.
static pid_t child_of(pid_t parent)
{
    char path[64];
    int child = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *file = fopen(path, "r");
    CHECK(file && fscanf(file, "%d", &child) == 1);
    fclose(file);
    return (pid_t)child;
}

// The time of a processor that a process has used, in ticks.
static unsigned long used(pid_t pid)
{
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    CHECK(file && fgets(text, sizeof text, file));
    fclose(file);
    CHECK(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2);
    return user + system;
}

static boxlite_box *sized_box(boxlite_runtime *runtime, const char *of, uint64_t disk_mib, uint32_t memory_mib)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image(of), &options, &error));
    OK(boxlite_box_options_set_disk_size_mib(options, disk_mib, &error));
    OK(boxlite_box_options_set_memory_mib(options, memory_mib, &error));
    return create_box(runtime, options);
}

static void a_pool_is_within_bounds(void)
{
    boxlite_runtime_options *options;
    OK(boxlite_runtime_options_new(&options, &error));
    FAILS(boxlite_runtime_options_set_pool_size(options, 65, &error), BOXLITE_INVALID_ARGUMENT, "machines");
    OK(boxlite_runtime_options_set_pool_size(options, 64, &error));
    FAILS(boxlite_runtime_options_set_pool_machine(options, 0, 512, &error), BOXLITE_INVALID_ARGUMENT, "cpus");
    FAILS(boxlite_runtime_options_set_pool_machine(options, 1, 1, &error), BOXLITE_INVALID_ARGUMENT, "memory_mib");
    boxlite_runtime_options_free(options);
    CHECK(boxlite_runtime_pool_ready(NULL) == 0);
}

static void one_that_waits_uses_no_processor(void)
{
    pid_t supervisors[2];
    CHECK(find_supervisors(supervisors) == 2);
    pid_t machine = child_of(supervisors[0]);
    unsigned long before = used(machine);
    sleep_ms(1000);
    CHECK(used(machine) - before <= 1);
}

// What tells one box from another, and what a box may have too much of.
static const char identity[] =
    "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; head -c 32 /dev/urandom | sha256sum";
static const char traces[] =
    "grep -c rehears /proc/mounts; ls / /etc /dev /sys/block | grep -ci rehears; grep -rl rehears /etc; "
    "ps | grep -c '[i]nit.*rehears'; ls -d /rehearsal 2>/dev/null; true";

static void boxes_have_nothing_in_common(boxlite_runtime *runtime)
{
    struct {
        const char *image, *blocks;
        uint64_t mib;
    } kinds[] = {{"busybox", "131072\n", 64}, {"busybox", "20971520\n", 10240}, {"busybox", "204800\n", 100}};
    boxlite_box *boxes[3];
    char *lines[3];
    for (int i = 0; i < 3; i++) {
        boxes[i] = sized_box(runtime, kinds[i].image, kinds[i].mib, 256);
        EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2);
        start_as(boxes[i], BOXLITE_BOOT_POOLED);
        PRINTS(boxes[i], "cat /sys/block/vda/size", kinds[i].blocks);
        PRINTS(boxes[i], "cat /proc/mounts | grep -c ext4", "1\n");
        PRINTS(boxes[i], traces, "0\n0\n0\n");
        PRINTS(boxes[i], "echo mine > /mine; sync; cat /mine", "mine\n");
        // The clock did not wait.
        char seconds[32];
        snprintf(seconds, sizeof seconds, "%ld", (long)time(NULL));
        char *now = output_of(boxes[i], "date +%s");
        CHECK(labs(atol(now) - atol(seconds)) <= 3);
        free(now);
        lines[i] = output_of(boxes[i], identity);
        for (int j = 0; j < i; j++) {
            // Line by line: host name, machine id, boot id, random bytes.
            char *a = lines[i], *b = lines[j];
            for (int line = 0; line < 4; line++) {
                size_t length = strcspn(a, "\n");
                CHECK(length > 0 && (length != strcspn(b, "\n") || memcmp(a, b, length)));
                a += length + 1;
                b += strcspn(b, "\n") + 1;
            }
        }
    }
    for (int i = 0; i < 3; i++) {
        free(lines[i]);
        // The disk is the box's: it is there at the next start, by whatever road.
        boxlite_op *op;
        OK(boxlite_box_stop(boxes[i], 1000, &op, &error));
        wait_op(op);
        PRINTS(boxes[i], "cat /mine", "mine\n");
        remove_box(runtime, boxes[i]);
    }
}

static void an_image_of_its_own(boxlite_runtime *runtime)
{
    struct stat st;
    if (stat(image("python"), &st) != 0)
        return;
    boxlite_box *box = sized_box(runtime, "python", 10240, 256);
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) > 0);
    start_as(box, BOXLITE_BOOT_POOLED);
    PRINTS(box, "grep ^ID= /etc/os-release", "ID=debian\n");
    remove_box(runtime, box);
}

static void who_comes_too_late_is_restored(boxlite_runtime *runtime)
{
    boxlite_box *boxes[4];
    boxlite_op *ops[4];
    int pooled = 0;
    for (int i = 0; i < 4; i++)
        boxes[i] = sized_box(runtime, "busybox", 64, 256);
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2);
    for (int i = 0; i < 4; i++)
        OK(boxlite_box_start(boxes[i], &ops[i], &error));
    for (int i = 0; i < 4; i++) {
        wait_op(ops[i]);
        boxlite_box_info *info = inspect(boxes[i]);
        int32_t boot = boxlite_box_info_boot(info);
        CHECK(boot == BOXLITE_BOOT_POOLED || boot == BOXLITE_BOOT_RESTORED);
        pooled += boot == BOXLITE_BOOT_POOLED;
        boxlite_box_info_free(info);
        PRINTS(boxes[i], "echo here", "here\n");
    }
    CHECK(pooled == 2);
    for (int i = 0; i < 4; i++)
        remove_box(runtime, boxes[i]);
}

static void one_that_does_not_fit_stays(boxlite_runtime *runtime)
{
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2);
    boxlite_box *larger = sized_box(runtime, "busybox", 64, 320);
    start_as(larger, BOXLITE_BOOT_RESTORED);
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_memory_mib(options, 256, &error));
    OK(boxlite_box_options_set_cold_boot(options, true, &error));
    boxlite_box *cold = create_box(runtime, options);
    start_as(cold, BOXLITE_BOOT_COLD);
    CHECK(boxlite_runtime_pool_ready(runtime) == 2);
    remove_box(runtime, larger);
    remove_box(runtime, cold);
}

// Whatever becomes of one that waits: it is replaced, and the next start works, also at once.
static void one_that_dies_is_replaced(boxlite_runtime *runtime, int the_machine, int at_once)
{
    pid_t found[2], victims[2];
    boxlite_box *box = sized_box(runtime, "busybox", 64, 256);
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2 && find_supervisors(found) == 2);
    for (int i = 0; i < 2; i++)
        victims[i] = the_machine ? child_of(found[i]) : found[i];
    for (int i = 0; i < 2; i++)
        CHECK(kill(victims[i], SIGKILL) == 0);
    if (!at_once)
        EVENTUALLY(boxlite_runtime_pool_ready(runtime) < 2);
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
    PRINTS(box, "echo works", "works\n");
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2);
    remove_box(runtime, box);
}

static void a_cancelled_start_leaves_no_machine(boxlite_runtime *runtime)
{
    boxlite_box *box = sized_box(runtime, "busybox", 64, 256);
    for (int delay = 0; delay < 30; delay += 3) {
        boxlite_op *op;
        EVENTUALLY(boxlite_runtime_pool_ready(runtime) > 0);
        OK(boxlite_box_start(box, &op, &error));
        sleep_ms(delay);
        OK(boxlite_op_cancel(op, &error));
        boxlite_status status = boxlite_op_wait(op, 60000, &error);
        boxlite_error_free(error);
        error = NULL;
        boxlite_op_free(op);
        CHECK(status == BOXLITE_OK || status == BOXLITE_CANCELLED);
        if (status == BOXLITE_CANCELLED)
            CHECK(status_of(box) != BOXLITE_BOX_RUNNING);
        OK(boxlite_box_stop(box, 0, &op, &error));
        wait_op(op);
    }
    PRINTS(box, "echo works", "works\n");
    remove_box(runtime, box);
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2 && count_supervisors() == 2);
}

// A program with a machine that waits.
static void be_killed(void)
{
    setenv("TMPDIR", home, 1);
    int before = count_supervisors();
    boxlite_runtime *own = open_pool(1, 256);
    EVENTUALLY(boxlite_runtime_pool_ready(own) == 1);
    CHECK(count_supervisors() == before + 1);
    die_and_leave_a_copy();
}

// A program that is killed leaves no machine that waits, also if a forked child has all its sockets.
static void they_die_with_their_program(void)
{
    int lives_on[2];
    int before = count_supervisors();
    make_pipe(lives_on);
    unsetenv("TMPDIR");
    pid_t child = start_program("be_killed", lives_on[0], -1);
    setenv("TMPDIR", home, 1);
    wait_killed(child);
    EVENTUALLY(count_supervisors() == before);
    close(lives_on[0]);
    close(lives_on[1]);
}

static void shutdown_ends_them(boxlite_runtime *runtime)
{
    boxlite_op *op;
    pid_t supervisors[2];
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2 && find_supervisors(supervisors) == 2);
    pid_t machine = child_of(supervisors[0]);
    OK(boxlite_runtime_shutdown(runtime, 0, &op, &error));
    wait_op(op);
    CHECK(boxlite_runtime_pool_ready(runtime) == 0);
    EVENTUALLY(count_supervisors() == 0 && kill(machine, 0) != 0);
    // None is made again, and a box still starts.
    boxlite_box *box = sized_box(runtime, "busybox", 64, 256);
    start_as(box, BOXLITE_BOOT_RESTORED);
    sleep_ms(500);
    CHECK(boxlite_runtime_pool_ready(runtime) == 0 && count_supervisors() == 1);
    remove_box(runtime, box);
}

static const program programs[] = {{"be_killed", be_killed}, {NULL, NULL}};

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, programs);
    a_pool_is_within_bounds();
    boxlite_runtime *runtime = open_pool(2, 256);
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 2);
    one_that_waits_uses_no_processor();
    boxes_have_nothing_in_common(runtime);
    an_image_of_its_own(runtime);
    who_comes_too_late_is_restored(runtime);
    one_that_does_not_fit_stays(runtime);
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_DETOURS) == 0);
    for (int machine = 0; machine < 2; machine++)
        for (int at_once = 0; at_once < 2; at_once++)
            one_that_dies_is_replaced(runtime, machine, at_once);
    a_cancelled_start_leaves_no_machine(runtime);
    they_die_with_their_program();
    shutdown_ends_them(runtime);
    boxlite_runtime_free(runtime);
    // Freed without a shutdown they are gone too, also one that is just being made.
    runtime = open_pool(2, 256);
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 1);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_supervisors() == 0);
    runtime = open_pool(0, 256);
    CHECK(boxlite_runtime_pool_ready(runtime) == 0);
    close_runtime(runtime);
    return 0;
}
