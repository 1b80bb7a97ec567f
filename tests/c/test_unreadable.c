// Boxes whose rows in the database were spoiled: they are listed as what they are, can be removed, and
// keep nobody from the others.
#include "program.h"

// Changes the database behind the library's back.
static void sql(const char *text)
{
    char command[1024];
    snprintf(command, sizeof command, "sqlite3 -bail %s/db/boxlite.db \"PRAGMA busy_timeout = 10000; %s\" >/dev/null",
             home, text);
    CHECK(system(command) == 0);
}

static boxlite_box *named(boxlite_runtime *runtime, const char *name)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, name, &error));
    OK(boxlite_box_options_add_label(options, "kind", "test", &error));
    return create_box(runtime, options);
}

static boxlite_info_list *list(boxlite_runtime *runtime, int32_t status)
{
    boxlite_op *op;
    boxlite_info_list *list;
    boxlite_list_filter *filter;
    OK(boxlite_list_filter_new(&filter, &error));
    if (status >= 0)
        OK(boxlite_list_filter_add_status(filter, status, &error));
    OK(boxlite_box_list_matching(runtime, filter, &op, &error));
    boxlite_list_filter_free(filter);
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info_list(op, &list, &error));
    boxlite_op_free(op);
    return list;
}

static void get_fails(boxlite_runtime *runtime, const char *name, const char *why)
{
    boxlite_op *op;
    OK(boxlite_box_get(runtime, name, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_METADATA, why);
    boxlite_op_free(op);
}

static void remove_fails(boxlite_runtime *runtime, const char *name, boxlite_status status, const char *why)
{
    boxlite_op *op;
    OK(boxlite_box_remove(runtime, name, false, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), status, why);
    boxlite_op_free(op);
}

static void remove_named(boxlite_runtime *runtime, const char *name, bool force)
{
    boxlite_op *op;
    OK(boxlite_box_remove(runtime, name, force, &op, &error));
    wait_op(op);
}

// Names, and how each of them is spoiled.
static const struct {
    const char *name, *sql, *why;
} spoiled[] = {
    {"config-cut", "UPDATE box_config SET json = substr(json, 1, 40) WHERE name = 'config-cut'", "configuration"},
    {"config-empty", "UPDATE box_config SET json = '' WHERE name = 'config-empty'", "configuration"},
    {"config-bytes", "UPDATE box_config SET json = x'ff00fe' WHERE name = 'config-bytes'", "configuration"},
    {"config-text", "UPDATE box_config SET json = CAST(x'7bff7d' AS TEXT) WHERE name = 'config-text'", "configuration"},
    {"config-other", "UPDATE box_config SET json = (SELECT json FROM box_config WHERE name = 'good') "
     "WHERE name = 'config-other'", "another box"},
    {"state-cut", "UPDATE box_state SET json = '{' WHERE id = (SELECT id FROM box_config WHERE name = 'state-cut')", "state"},
    {"state-active", "UPDATE box_state SET json = 'x', status = 'running', pid = 1 WHERE id = "
     "(SELECT id FROM box_config WHERE name = 'state-active')", "state"},
    {"state-pid", "UPDATE box_state SET json = '[]', pid = 'none' WHERE id = "
     "(SELECT id FROM box_config WHERE name = 'state-pid')", "state"},
};
enum { SPOILED = sizeof spoiled / sizeof *spoiled };

static void make_and_spoil(void)
{
    boxlite_runtime *runtime = open_runtime();
    for (size_t i = 0; i < SPOILED; i++)
        boxlite_box_free(named(runtime, spoiled[i].name));
    boxlite_box_free(named(runtime, "good"));
    boxlite_runtime_free(runtime);
    for (size_t i = 0; i < SPOILED; i++)
        sql(spoiled[i].sql);
    // As after a reboot of the host, whose recovery sees all of them.
    sql("UPDATE alive SET boot_id = 'another'");
}

static void they_are_listed_beside_the_good_one(boxlite_runtime *runtime)
{
    boxlite_info_list *all = list(runtime, -1);
    CHECK(boxlite_info_list_count(all) == SPOILED + 1);
    for (size_t i = 0; i <= SPOILED; i++) {
        const boxlite_box_info *info = boxlite_info_list_get(all, i);
        const char *name = boxlite_box_info_name(info);
        CHECK(name && strlen(boxlite_box_info_id(info)) == 26 && strlen(boxlite_box_info_created_at(info)) > 19);
        CHECK(!strncmp(boxlite_box_info_created_at(info), "20", 2) && boxlite_box_info_pid(info) == 0);
        if (!strcmp(name, "good")) {
            CHECK(boxlite_box_info_status(info) == BOXLITE_BOX_CONFIGURED && !boxlite_box_info_error(info));
            continue;
        }
        size_t at = 0;
        while (at < SPOILED && strcmp(spoiled[at].name, name))
            at++;
        CHECK(at < SPOILED && boxlite_box_info_status(info) == BOXLITE_BOX_UNKNOWN);
        CHECK(strstr(boxlite_box_info_error(info), spoiled[at].why));
        // What can be read is told.
        bool known = !strncmp(name, "state", 5);
        CHECK((boxlite_box_info_label(info, "kind") != NULL) == known && (boxlite_box_info_cpus(info) == 1) == known);
    }
    boxlite_info_list_free(all);
    all = list(runtime, BOXLITE_BOX_UNKNOWN);
    CHECK(boxlite_info_list_count(all) == SPOILED);
    boxlite_info_list_free(all);
}

static void nothing_else_can_be_done_with_them(boxlite_runtime *runtime)
{
    for (size_t i = 0; i < SPOILED; i++) {
        get_fails(runtime, spoiled[i].name, spoiled[i].why);
        // The name stays taken.
        boxlite_op *op;
        boxlite_box_options *options;
        OK(boxlite_box_options_new(image("busybox"), &options, &error));
        OK(boxlite_box_options_set_name(options, spoiled[i].name, &error));
        OK(boxlite_box_create(runtime, options, &op, &error));
        boxlite_box_options_free(options);
        FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_ALREADY_EXISTS, spoiled[i].name);
        boxlite_op_free(op);
    }
}

static void they_can_be_removed(boxlite_runtime *runtime)
{
    for (size_t i = 0; i < SPOILED; i++)
        remove_named(runtime, spoiled[i].name, i % 2);
    boxlite_info_list *left = list(runtime, -1);
    CHECK(boxlite_info_list_count(left) == 1);
    CHECK(!strcmp(boxlite_box_info_name(boxlite_info_list_get(left, 0)), "good"));
    boxlite_info_list_free(left);
    char command[160];
    snprintf(command, sizeof command, "test $(ls %s/boxes | wc -l) = 1", home);
    CHECK(system(command) == 0);
    boxlite_op *op;
    boxlite_box *box;
    OK(boxlite_box_get(runtime, "good", &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    PRINTS(box, "echo works", "works\n");
    remove_box(runtime, box);
}

// A program that runs two boxes, and tells it.
static void run_boxes(void)
{
    boxlite_op *op;
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box[2] = {named(runtime, "running-config"), named(runtime, "running-state")};
    for (int i = 0; i < 2; i++) {
        OK(boxlite_box_start(box[i], &op, &error));
        wait_op(op);
    }
    CHECK(write(1, "r", 1) == 1);
    char byte;
    CHECK(read(0, &byte, 1) == 0);
    // What it holds in its hands it can still use, and what is spoiled it says.
    CHECK(boxlite_box_inspect(box[1], &op, &error) == BOXLITE_OK);
    CHECK(boxlite_op_wait(op, 60000, &error) == BOXLITE_NOT_FOUND);
    boxlite_error_free(error);
    boxlite_op_free(op);
    boxlite_box_free(box[0]);
    boxlite_box_free(box[1]);
    boxlite_runtime_free(runtime);
}

static void one_that_runs_is_removed_with_force_only(boxlite_runtime *runtime)
{
    int in[2], out[2];
    char byte;
    make_pipe(in);
    make_pipe(out);
    pid_t other = start_program("run_boxes", in[0], out[1]);
    close(in[0]);
    close(out[1]);
    CHECK(read(out[0], &byte, 1) == 1);
    sql("UPDATE box_config SET json = 'x' WHERE name = 'running-config'");
    sql("UPDATE box_state SET json = 'x' WHERE id = (SELECT id FROM box_config WHERE name = 'running-state')");
    boxlite_info_list *both = list(runtime, BOXLITE_BOX_UNKNOWN);
    CHECK(boxlite_info_list_count(both) == 2);
    pid_t pid[2];
    for (size_t i = 0; i < 2; i++)
        CHECK((pid[i] = (pid_t)boxlite_box_info_pid(boxlite_info_list_get(both, i))) > 0 && kill(pid[i], 0) == 0);
    boxlite_info_list_free(both);
    remove_fails(runtime, "running-config", BOXLITE_INVALID_STATE, "force");
    remove_fails(runtime, "running-state", BOXLITE_INVALID_STATE, "force");
    CHECK(kill(pid[0], 0) == 0 && kill(pid[1], 0) == 0);
    remove_named(runtime, "running-config", true);
    remove_named(runtime, "running-state", true);
    EVENTUALLY(kill(pid[0], 0) != 0 && kill(pid[1], 0) != 0 && count_machines() == 0);
    close(in[1]);
    close(out[0]);
    wait_done(other);
    CHECK(count_boxes(runtime) == 0);
}

// A handle that was there before finds it out.
static void a_start_says_so_and_changes_nothing(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_box *box = named(runtime, "held");
    sql("UPDATE box_state SET json = 'x' WHERE id = (SELECT id FROM box_config WHERE name = 'held')");
    OK(boxlite_box_start(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_METADATA, "state");
    boxlite_op_free(op);
    OK(boxlite_box_inspect(box, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_METADATA, "state");
    boxlite_op_free(op);
    CHECK(count_machines() == 0);
    sql("SELECT CASE WHEN (SELECT s.json = 'x' AND s.status = 'configured' FROM box_state s "
        "JOIN box_config c ON c.id = s.id WHERE c.name = 'held') THEN 1 ELSE abs(-9223372036854775807 - 1) END");
    remove_box(runtime, box);
}

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, (program[]){{"make_and_spoil", make_and_spoil}, {"run_boxes", run_boxes}, {NULL, NULL}});
    boxlite_runtime_options_free(in_home()); // makes the directory
    wait_done(start_program("make_and_spoil", -1, -1));
    boxlite_runtime *runtime = open_runtime();
    they_are_listed_beside_the_good_one(runtime);
    nothing_else_can_be_done_with_them(runtime);
    they_can_be_removed(runtime);
    one_that_runs_is_removed_with_force_only(runtime);
    a_start_says_so_and_changes_nothing(runtime);
    close_runtime(runtime);
    return 0;
}
