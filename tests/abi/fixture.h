// What the generated calls work with: a handle of every kind, and what every call must keep to.
#ifndef FIXTURE_H
#define FIXTURE_H

#include "../c/check.h"

// Handles by the names of their types. `exec` runs and has a stdin, `ended` has ended, `op` and
// `done` have completed. `progress` and `event` are there inside their callbacks only.
typedef struct {
    boxlite_runtime_options *runtime_options;
    boxlite_box_options *box_options;
    boxlite_exec_options *exec_options;
    boxlite_runtime *runtime;
    boxlite_list_filter *list_filter;
    boxlite_box *box;
    boxlite_exec *exec, *ended;
    boxlite_op *op, *done;
    boxlite_box_info *box_info;
    boxlite_info_list *info_list;
    boxlite_exec_list *exec_list;
    boxlite_snapshot *snapshot;
    boxlite_snapshot_list *snapshot_list;
    boxlite_file_list *file_list;
    const boxlite_stored_file *stored_file;
    boxlite_export_options *export_options;
    boxlite_import_options *import_options;
    const boxlite_exec_info *exec_info;
    boxlite_output *output;
    boxlite_metrics *metrics;
    boxlite_text *text;
    boxlite_error *error;
    const boxlite_progress *progress;
    const boxlite_event *event;
    boxlite_subscription *subscription;
} fixture;

// A result that nobody wrote.
#define POISON ((void *)(uintptr_t)0x5a5a5a5a)

// Calls every function; returns how many there are.
int call_everything(const fixture *f);

// Notes the call that comes, for messages.
void at(const char *function, const char *what);
// What every status and error must keep to; `error` is NULL if the call got none.
void check_status(boxlite_status status, boxlite_error *const *error);
// A NULL or malformed argument is INVALID_ARGUMENT with an error that names it.
void check_refused(boxlite_status status, const boxlite_error *error, const char *argument);
// User data of its own for each call, and its destroy function: each must be destroyed once.
void *slot(void);
void count(void *user_data);
// Gives the next dispatch something to do.
void something_is_due(const fixture *f);

boxlite_error *make_error(const fixture *f);
boxlite_runtime_options *make_runtime_options(const fixture *f);
boxlite_box_options *make_box_options(const fixture *f);
boxlite_exec_options *make_exec_options(const fixture *f);
boxlite_list_filter *make_list_filter(const fixture *f);
boxlite_subscription *make_subscription(const fixture *f);
boxlite_box_info *make_box_info(const fixture *f);
boxlite_info_list *make_info_list(const fixture *f);
boxlite_exec_list *make_exec_list(const fixture *f);
boxlite_snapshot *make_snapshot(const fixture *f);
boxlite_snapshot_list *make_snapshot_list(const fixture *f);
boxlite_file_list *make_file_list(const fixture *f);
boxlite_export_options *make_export_options(const fixture *f);
boxlite_import_options *make_import_options(const fixture *f);
boxlite_output *make_output(const fixture *f);
boxlite_metrics *make_metrics(const fixture *f);
boxlite_text *make_text(const fixture *f);

#endif
