// Snapshots, as the tests make and use them.
#ifndef SNAPSHOTS_H
#define SNAPSHOTS_H

#include "check.h"

static inline boxlite_status try_snapshot(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    OK(boxlite_box_snapshot_create(box, name, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_op_free(op);
    return status;
}

// A new snapshot; the caller frees it.
static inline boxlite_snapshot *take_snapshot(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    boxlite_snapshot *snapshot;
    OK(boxlite_box_snapshot_create(box, name, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_snapshot(op, &snapshot, &error));
    boxlite_op_free(op);
    CHECK(snapshot);
    return snapshot;
}

static inline void make_snapshot(boxlite_box *box, const char *name)
{
    boxlite_snapshot_free(take_snapshot(box, name));
}

// A snapshot as it is now; NULL if there is none.
static inline boxlite_snapshot *get_snapshot(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    boxlite_snapshot *snapshot;
    OK(boxlite_box_snapshot_get(box, name, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_snapshot(op, &snapshot, &error));
    boxlite_op_free(op);
    return snapshot;
}

static inline boxlite_status try_restore(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    OK(boxlite_box_snapshot_restore(box, name, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_op_free(op);
    return status;
}

static inline boxlite_status try_remove_snapshot(boxlite_box *box, const char *name)
{
    boxlite_op *op;
    OK(boxlite_box_snapshot_remove(box, name, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    boxlite_op_free(op);
    return status;
}

// The names of a box's snapshots, with a space after each. Static.
static inline const char *snapshots_of(boxlite_box *box)
{
    static char names[1024];
    boxlite_op *op;
    boxlite_snapshot_list *list;
    OK(boxlite_box_snapshot_list(box, &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_snapshot_list(op, &list, &error));
    boxlite_op_free(op);
    *names = 0;
    for (size_t i = 0; i < boxlite_snapshot_list_count(list); i++) {
        strcat(names, boxlite_snapshot_name(boxlite_snapshot_list_get(list, i)));
        strcat(names, " ");
    }
    CHECK(!boxlite_snapshot_list_get(list, boxlite_snapshot_list_count(list)));
    boxlite_snapshot_list_free(list);
    return names;
}

static inline void stop(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_stop(box, 10000, &op, &error));
    wait_op(op);
}

// The path of a file of a box. Static, in turns.
static inline const char *in_box(boxlite_box *box, const char *name)
{
    static char paths[4][1024];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/boxes/%s/%s", home, boxlite_box_id(box), name);
    return path;
}

// Whether a command of the host's succeeds.
static inline bool succeeds(const char *format, const char *path)
{
    char command[2048];
    snprintf(command, sizeof command, format, path);
    int status = system(command);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The first word that a command of the host's prints. Static, in turns.
static inline const char *word_of(const char *format, const char *path)
{
    static char words[4][256];
    static int next;
    char *word = words[next++ % 4], command[2048];
    snprintf(command, sizeof command, format, path);
    FILE *pipe = popen(command, "r");
    CHECK(pipe);
    *word = 0;
    CHECK(fscanf(pipe, "%255s", word) <= 1);
    CHECK(pclose(pipe) == 0);
    return word;
}

#endif
