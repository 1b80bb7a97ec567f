// Metrics: what was done and what is taken, from real work, and as the text that Prometheus reads.
#include "program.h"
#include <ctype.h>

static double metric(const boxlite_metrics *metrics, int32_t number)
{
    return boxlite_metrics_get(metrics, number);
}

static boxlite_metrics *taken(boxlite_op *op)
{
    boxlite_metrics *metrics;
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_metrics(op, &metrics, &error));
    boxlite_op_free(op);
    return metrics;
}

static boxlite_metrics *of_box(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_metrics(box, &op, &error));
    return taken(op);
}

static boxlite_metrics *of_runtime(boxlite_runtime *runtime)
{
    boxlite_op *op;
    OK(boxlite_runtime_metrics(runtime, &op, &error));
    return taken(op);
}

static char *text_of(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_text *text;
    OK(boxlite_runtime_metrics_text(runtime, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_text(op, &text, &error));
    boxlite_op_free(op);
    char *copy = strdup(boxlite_text_get(text));
    CHECK(copy);
    boxlite_text_free(text);
    return copy;
}

// One metric of a box now.
static double now(boxlite_box *box, int32_t number)
{
    boxlite_metrics *metrics = of_box(box);
    double value = metric(metrics, number);
    boxlite_metrics_free(metrics);
    return value;
}

static void commands_and_bytes_are_counted(boxlite_runtime *runtime, boxlite_box *box)
{
    (void)runtime;
    boxlite_metrics *before = of_box(box);
    CHECK(metric(before, BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL) == 0);
    boxlite_metrics_free(before);
    PRINTS(box, "head -c 5000 /dev/zero | tr '\\0' x | wc -c; printf 12345 >&2", "5000\n");
    const char *missing[] = {"/no/such/program"};
    boxlite_exec_options *options;
    OK(boxlite_exec_options_new(missing, 1, &options, &error));
    boxlite_exec *exec = start_with(box, options);
    OK(boxlite_exec_wait(exec, 60000, NULL, &error));
    boxlite_exec_free(exec);
    options = shell("cat >/dev/null; head -c 100000 /dev/zero");
    OK(boxlite_exec_options_set_stdin(options, true, &error));
    exec = start_with(box, options);
    size_t written = 0;
    for (size_t total = 0; total < 777;) {
        boxlite_status status = boxlite_exec_write(exec, (const uint8_t[777]){0}, 777 - total, &written, NULL);
        CHECK(status == BOXLITE_OK || status == BOXLITE_WOULD_BLOCK);
        total += status == BOXLITE_OK ? written : 0;
        sleep_ms(status == BOXLITE_OK ? 0 : 1);
    }
    OK(boxlite_exec_close_stdin(exec, &error));
    bytes out = {0}, err = {0};
    CHECK(finish(exec, &out, &err) == 0 && out.length == 100000);
    free(out.data);
    boxlite_metrics *after = of_box(box);
    CHECK(metric(after, BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL) == 2);
    CHECK(metric(after, BOXLITE_METRIC_EXEC_ERRORS_TOTAL) == 1);
    CHECK(metric(after, BOXLITE_METRIC_BYTES_SENT_TOTAL) == 777);
    CHECK(metric(after, BOXLITE_METRIC_BYTES_RECEIVED_TOTAL) == 5 + 5 + 100000);
    // What is not there is not there.
    CHECK(metric(after, BOXLITE_METRIC_NETWORK_BYTES_SENT) == -1);
    CHECK(metric(after, BOXLITE_METRIC_BOXES_CREATED_TOTAL) == -1 && metric(after, 12345) == -1);
    boxlite_metrics_free(after);
}

// The processor time of a process in ticks.
static double ticks_of(uint32_t pid)
{
    char path[64], text[2048];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%u/stat", (unsigned)pid);
    FILE *file = fopen(path, "r");
    CHECK(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    CHECK(sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2);
    return (double)(user + system);
}

static double memory_of(uint32_t pid)
{
    char path[64], line[256];
    double kibibytes = -1;
    snprintf(path, sizeof path, "/proc/%u/smaps_rollup", (unsigned)pid);
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "Pss:", 4))
            kibibytes = atof(line + 4);
    fclose(file);
    return kibibytes * 1024;
}

static void the_processes_are_those_of_the_host(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    uint32_t pid = boxlite_box_info_pid(info);
    boxlite_box_info_free(info);
    double ms = 1000.0 / (double)sysconf(_SC_CLK_TCK);
    double cpu_before = ticks_of(pid) * ms;
    boxlite_metrics *metrics = of_box(box);
    double cpu_after = ticks_of(pid) * ms, memory = memory_of(pid);
    double cpu = metric(metrics, BOXLITE_METRIC_SUPERVISOR_CPU_MS);
    CHECK(cpu >= cpu_before && cpu <= cpu_after);
    double supervisor = metric(metrics, BOXLITE_METRIC_SUPERVISOR_MEMORY_BYTES);
    double machine = metric(metrics, BOXLITE_METRIC_MACHINE_MEMORY_BYTES);
    CHECK(supervisor > memory / 2 && supervisor < memory * 2);
    CHECK(machine > 4 << 20 && metric(metrics, BOXLITE_METRIC_MEMORY_BYTES) == supervisor + machine);
    CHECK(metric(metrics, BOXLITE_METRIC_MACHINE_CPU_MS) > 0);
    boxlite_metrics_free(metrics);
}

// A second of the guest's time, as it says itself.
static void burn(boxlite_box *box)
{
    free(output_of(box, "while [ $(cut -d' ' -f14 /proc/$$/stat) -lt 100 ]; do j=0; "
                        "while [ $j -lt 3000 ]; do j=$((j+1)); done; done; echo done"));
}

static void work_of_the_processor_is_seen(boxlite_box *box)
{
    boxlite_metrics *before = of_box(box);
    double machine = metric(before, BOXLITE_METRIC_MACHINE_CPU_MS);
    double guest = metric(before, BOXLITE_METRIC_GUEST_CPU_MS);
    CHECK(guest >= 0);
    boxlite_metrics_free(before);
    // How much of its time a processor of the guest gets from the host is the host's affair.
    boxlite_metrics *after = NULL;
    for (int tries = 0; tries < 30; tries++) {
        burn(box);
        boxlite_metrics_free(after);
        after = of_box(box);
        if (metric(after, BOXLITE_METRIC_MACHINE_CPU_MS) >= machine + 400)
            break;
    }
    if (metric(after, BOXLITE_METRIC_GUEST_CPU_MS) < guest + 900 ||
        metric(after, BOXLITE_METRIC_MACHINE_CPU_MS) < machine + 400)
        FAIL("guest %f -> %f ms, machine %f -> %f ms", guest, metric(after, BOXLITE_METRIC_GUEST_CPU_MS), machine,
             metric(after, BOXLITE_METRIC_MACHINE_CPU_MS));
    CHECK(metric(after, BOXLITE_METRIC_CPU_PERCENT) > 1);
    CHECK(metric(after, BOXLITE_METRIC_CPU_PERCENT) < 100.0 * (double)sysconf(_SC_NPROCESSORS_ONLN) + 50);
    CHECK(metric(after, BOXLITE_METRIC_GUEST_LOAD_1) >= 0 && metric(after, BOXLITE_METRIC_GUEST_LOAD_15) < 100);
    boxlite_metrics_free(after);
}

static void memory_that_is_taken_is_seen(boxlite_box *box)
{
    const double mib = 1 << 20;
    boxlite_metrics *before = of_box(box);
    double total = metric(before, BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES);
    CHECK(total > 400 * mib && total < 512 * mib);
    double available = metric(before, BOXLITE_METRIC_GUEST_MEMORY_AVAILABLE_BYTES);
    double machine = metric(before, BOXLITE_METRIC_MACHINE_MEMORY_BYTES);
    double disk = metric(before, BOXLITE_METRIC_GUEST_DISK_USED_BYTES);
    CHECK(available > 0 && available <= total);
    double size = metric(before, BOXLITE_METRIC_GUEST_DISK_SIZE_BYTES);
    CHECK(size > 9e9 && size < 10 * 1024 * mib && disk > 0 && disk < size);
    CHECK(metric(before, BOXLITE_METRIC_GUEST_PROCESSES) > 1 && metric(before, BOXLITE_METRIC_GUEST_UPTIME_MS) > 0);
    boxlite_metrics_free(before);
    free(output_of(box, "dd if=/dev/urandom of=/dev/shm/taken bs=1M count=64 2>/dev/null && echo taken"));
    boxlite_metrics *after = of_box(box);
    double now_available = metric(after, BOXLITE_METRIC_GUEST_MEMORY_AVAILABLE_BYTES);
    CHECK(now_available < available - 48 * mib && now_available > available - 120 * mib);
    CHECK(metric(after, BOXLITE_METRIC_MACHINE_MEMORY_BYTES) > machine + 48 * mib);
    boxlite_metrics_free(after);
    free(output_of(box, "rm /dev/shm/taken; dd if=/dev/zero of=/file bs=1M count=32 2>/dev/null; sync; echo written"));
    double used = now(box, BOXLITE_METRIC_GUEST_DISK_USED_BYTES);
    CHECK(used >= disk + 32 * mib && used < disk + 64 * mib);
}

static void the_start_is_told_in_parts(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    double sum = 0, parts = 0;
    for (size_t i = 0; i < boxlite_box_info_stage_count(info); i++)
        sum += (double)boxlite_box_info_stage_microseconds(info, i) / 1000;
    boxlite_box_info_free(info);
    boxlite_metrics *metrics = of_box(box);
    double total = metric(metrics, BOXLITE_METRIC_TOTAL_CREATE_MS);
    CHECK(total > 0 && total > sum - 1 && total < sum + 1);
    for (int32_t part = BOXLITE_METRIC_GUEST_BOOT_MS; part <= BOXLITE_METRIC_CONTAINER_INIT_MS; part++) {
        CHECK(metric(metrics, part) >= 0);
        parts += metric(metrics, part);
    }
    CHECK(metric(metrics, BOXLITE_METRIC_GUEST_BOOT_MS) > 0 && metric(metrics, BOXLITE_METRIC_CONTAINER_INIT_MS) > 0);
    CHECK(parts > total / 2 && parts < total + 1);
    boxlite_metrics_free(metrics);
}

// ---- the text -------------------------------------------------------------------------------------

static const char *name(const char *at)
{
    CHECK(isalpha((unsigned char)*at) || *at == '_');
    while (isalnum((unsigned char)*at) || *at == '_')
        at++;
    return at;
}

// {name="value",...} where there is one; the values are written one after the other, each followed by ';'.
static const char *labels(const char *at, char *values)
{
    *values = 0;
    if (*at != '{')
        return at;
    do {
        at = name(at + 1);
        CHECK(at[0] == '=' && at[1] == '"');
        for (at += 2; *at != '"'; at++) {
            CHECK(*at && *at != '\n');
            if (*at == '\\') {
                at++;
                CHECK(*at == '\\' || *at == '"' || *at == 'n');
            }
            *values++ = *at;
        }
        *values++ = ';';
        *values = 0;
        at++;
    } while (*at == ',');
    CHECK(*at == '}');
    return at + 1;
}

// A strict reader of the format: each family once, HELP and TYPE first, every sample of it after that and
// only once, numbers that are numbers. Returns how many samples there are.
static int check_text(const char *text)
{
    char families[128][128], seen_[1024][400], values[256];
    int count = 0, samples = 0;
    bool counter = false;
    for (const char *at = text; *at;) {
        const char *line_end = strchr(at, '\n'), *end;
        CHECK(line_end && line_end > at);
        if (!strncmp(at, "# HELP ", 7)) {
            end = name(at + 7);
            CHECK(*end == ' ' && end + 1 < line_end && count < 128);
            snprintf(families[count], sizeof *families, "%.*s", (int)(end - at - 7), at + 7);
            CHECK(!strncmp(families[count], "boxlite_", 8));
            for (int i = 0; i < count; i++)
                CHECK(strcmp(families[i], families[count]));
            count++;
            at = line_end + 1;
            line_end = strchr(at, '\n');
            // The TYPE comes right after.
            CHECK(line_end && !strncmp(at, "# TYPE ", 7));
            end = name(at + 7);
            size_t length = strlen(families[count - 1]);
            CHECK((size_t)(end - at - 7) == length && !strncmp(at + 7, families[count - 1], length));
            counter = !strncmp(end, " counter\n", 9);
            CHECK(counter || !strncmp(end, " gauge\n", 7));
            bool total = length > 6 && !strcmp(families[count - 1] + length - 6, "_total");
            CHECK(total == counter);
        } else {
            end = name(at);
            CHECK(count > 0 && (size_t)(end - at) == strlen(families[count - 1]));
            CHECK(!strncmp(at, families[count - 1], (size_t)(end - at)));
            end = labels(end, values);
            CHECK(samples < 1024);
            snprintf(seen_[samples], sizeof *seen_, "%.*s", (int)(end - at), at);
            for (int i = 0; i < samples; i++)
                CHECK(strcmp(seen_[i], seen_[samples]));
            samples++;
            CHECK(*end == ' ');
            char *after;
            double value = strtod(end + 1, &after);
            CHECK(after == line_end && value >= 0 && end[1] != '+' && !isspace((unsigned char)end[1]));
        }
        at = line_end + 1;
    }
    return samples;
}

// The value of a sample, by all that comes before it.
static double sample(const char *text, const char *what)
{
    char line[300];
    snprintf(line, sizeof line, "\n%s ", what);
    const char *found = strstr(text, line);
    if (!found)
        FAIL("no %s in:\n%s", what, text);
    return strtod(found + strlen(line), NULL);
}

static void the_text_is_what_prometheus_reads(boxlite_runtime *runtime, boxlite_box *box, boxlite_box *unnamed)
{
    char what[256], path[128], command[256];
    char *text = text_of(runtime);
    CHECK(check_text(text) > 40);
    CHECK(sample(text, "boxlite_running_boxes") == 2);
    snprintf(what, sizeof what, "boxlite_box_commands_executed_total{id=\"%s\",name=\"metered\"}", boxlite_box_id(box));
    CHECK(sample(text, what) == now(box, BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL));
    snprintf(what, sizeof what, "boxlite_box_commands_executed_total{id=\"%s\",name=\"\"}", boxlite_box_id(unnamed));
    CHECK(sample(text, what) == 0);
    snprintf(what, sizeof what, "boxlite_box_guest_memory_total_bytes{id=\"%s\",name=\"metered\"}", boxlite_box_id(box));
    CHECK(sample(text, what) == now(box, BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES));
    snprintf(what, sizeof what, "boxlite_box_start_seconds{id=\"%s\",name=\"metered\"}", boxlite_box_id(box));
    double start = sample(text, what) * 1000, told = now(box, BOXLITE_METRIC_TOTAL_CREATE_MS);
    CHECK(start > told - 0.001 && start < told + 0.001);
    if (system("command -v promtool >/dev/null") == 0) {
        snprintf(path, sizeof path, "%s/metrics.txt", home);
        FILE *file = fopen(path, "w");
        CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
        snprintf(command, sizeof command, "promtool check metrics <%s", path);
        CHECK(system(command) == 0);
    }
    free(text);
}

static void a_runtime_tells_what_it_has_done(boxlite_runtime *runtime, double running)
{
    boxlite_metrics *metrics = of_runtime(runtime);
    CHECK(metric(metrics, BOXLITE_METRIC_BOXES_CREATED_TOTAL) == 2);
    CHECK(metric(metrics, BOXLITE_METRIC_BOXES_FAILED_TOTAL) == 0);
    CHECK(metric(metrics, BOXLITE_METRIC_BOXES_STOPPED_TOTAL) == 2 - running);
    CHECK(metric(metrics, BOXLITE_METRIC_NUM_RUNNING_BOXES) == running);
    double commands = metric(metrics, BOXLITE_METRIC_TOTAL_COMMANDS_EXECUTED);
    CHECK(commands == (double)boxlite_runtime_counter(runtime, BOXLITE_COUNTER_COMMANDS_EXECUTED) && commands >= 2);
    CHECK(metric(metrics, BOXLITE_METRIC_TOTAL_EXEC_ERRORS) == 1);
    CHECK(metric(metrics, BOXLITE_METRIC_CPU_PERCENT) == -1);
    boxlite_metrics_free(metrics);
}

// Another program sees the same counts, which the supervisor keeps, and has none of its own.
static void see_the_same(void)
{
    boxlite_op *op;
    boxlite_box *box;
    boxlite_runtime *runtime = open_runtime();
    OK(boxlite_box_get(runtime, "metered", &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    boxlite_metrics *metrics = of_box(box);
    CHECK(metric(metrics, BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL) == atof(getenv("BOXLITE_TEST_COMMANDS")));
    CHECK(metric(metrics, BOXLITE_METRIC_EXEC_ERRORS_TOTAL) == 1);
    CHECK(metric(metrics, BOXLITE_METRIC_TOTAL_CREATE_MS) > 0 && metric(metrics, BOXLITE_METRIC_GUEST_BOOT_MS) > 0);
    boxlite_metrics_free(metrics);
    metrics = of_runtime(runtime);
    CHECK(metric(metrics, BOXLITE_METRIC_BOXES_CREATED_TOTAL) == 0);
    CHECK(metric(metrics, BOXLITE_METRIC_TOTAL_COMMANDS_EXECUTED) == 0);
    CHECK(metric(metrics, BOXLITE_METRIC_NUM_RUNNING_BOXES) == 1);
    boxlite_metrics_free(metrics);
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);
}

static void another_program_sees_the_same(boxlite_box *box)
{
    char commands[32];
    snprintf(commands, sizeof commands, "%.0f", now(box, BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL));
    setenv("BOXLITE_TEST_COMMANDS", commands, 1);
    wait_done(start_program("see_the_same", -1, -1));
}

// A guest that says nothing keeps the rest from nobody.
static void who_stands_still_is_left_out(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_pause(box, &op, &error));
    wait_op(op);
    boxlite_metrics *metrics = of_box(box);
    CHECK(metric(metrics, BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES) == -1);
    CHECK(metric(metrics, BOXLITE_METRIC_GUEST_LOAD_1) == -1);
    CHECK(metric(metrics, BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL) > 0);
    CHECK(metric(metrics, BOXLITE_METRIC_MACHINE_MEMORY_BYTES) > 0);
    boxlite_metrics_free(metrics);
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
    CHECK(now(box, BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES) > 0);
}

static void count_silence(void *user_data, const boxlite_event *event)
{
    if (boxlite_event_what(event) == BOXLITE_EVENT_BOX_FAILED)
        FAIL("a box ended: %s", boxlite_event_text(event));
    *(int *)user_data += boxlite_event_what(event) == BOXLITE_EVENT_UNRESPONSIVE;
}

// The same of a machine that does not answer, before and after that was noticed.
static void who_is_silent_is_left_out(boxlite_runtime *runtime, boxlite_box *box)
{
    int silent = 0;
    boxlite_subscription *subscription;
    OK(boxlite_runtime_subscribe(runtime, 0, count_silence, &silent, NULL, &subscription, &error));
    CHECK(signal_machines(SIGSTOP) == 2);
    for (int noticed = 0; noticed < 2; noticed++) {
        boxlite_metrics *metrics = of_box(box);
        CHECK(metric(metrics, BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES) == -1);
        CHECK(metric(metrics, BOXLITE_METRIC_MACHINE_MEMORY_BYTES) > 0);
        boxlite_metrics_free(metrics);
        DISPATCH_UNTIL(runtime, silent == 2);
    }
    boxlite_subscription_free(subscription);
    int machines = signal_machines(SIGCONT);
    if (machines != 2)
        FAIL("%d machines", machines);
    EVENTUALLY(now(box, BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES) > 0);
}

// Root in the guest may put anything in the place of what the agent reads.
static void a_guest_that_lies_harms_nobody(boxlite_box *box)
{
    free(output_of(box, "mkdir /lies && echo 'MemTotal: 99999999999999999 kB' >/lies/meminfo && "
                        "mkfifo /lies/fifo && mount -o bind /lies/meminfo /proc/meminfo && "
                        "mount -o bind /lies/fifo /proc/stat && echo lies"));
    boxlite_metrics *metrics = of_box(box);
    CHECK(metric(metrics, BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES) == -1);
    CHECK(metric(metrics, BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL) > 0);
    boxlite_metrics_free(metrics);
    free(output_of(box, "umount /proc/meminfo && umount /proc/stat && echo truth"));
    CHECK(now(box, BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES) > 0);
}

static void who_does_not_run_has_none(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_stop(box, 0, &op, &error));
    wait_op(op);
    OK(boxlite_box_metrics(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_STATE, "does not run");
    boxlite_op_free(op);
}

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, (program[]){{"see_the_same", see_the_same}, {NULL, NULL}});
    boxlite_op *op;
    boxlite_box_options *options;
    boxlite_runtime *runtime = open_runtime();
    char *nothing = text_of(runtime);
    CHECK(check_text(nothing) == 6);
    free(nothing);
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "metered", &error));
    boxlite_box *box = create_box(runtime, options), *unnamed = new_box(runtime);
    OK(boxlite_box_start(box, &op, &error));
    wait_op(op);
    OK(boxlite_box_start(unnamed, &op, &error));
    wait_op(op);
    commands_and_bytes_are_counted(runtime, box);
    the_processes_are_those_of_the_host(box);
    work_of_the_processor_is_seen(box);
    memory_that_is_taken_is_seen(box);
    the_start_is_told_in_parts(box);
    the_text_is_what_prometheus_reads(runtime, box, unnamed);
    a_runtime_tells_what_it_has_done(runtime, 2);
    another_program_sees_the_same(box);
    who_stands_still_is_left_out(box);
    who_is_silent_is_left_out(runtime, box);
    a_guest_that_lies_harms_nobody(box);
    who_does_not_run_has_none(box);
    a_runtime_tells_what_it_has_done(runtime, 1);
    remove_box(runtime, box);
    remove_box(runtime, unnamed);
    close_runtime(runtime);
    return 0;
}
