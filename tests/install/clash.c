// A program with functions that are named like parts of this library, and another library in Rust;
// all linked statically with this library, which must not use them.
#include <boxlite.h>
#include <stdio.h>
#include <stdlib.h>

// In Rust, see other.rs: 42, after a panic that was caught.
int other_panics(void);

#define OURS(name) \
    int name(void); \
    int name(void) \
    { \
        fputs(#name " of the program was called by the library\n", stderr); \
        abort(); \
    }

OURS(sqlite3_open)
OURS(sqlite3_open_v2)
OURS(sqlite3_initialize)
OURS(sqlite3_prepare_v2)
OURS(ZSTD_createDCtx)

int main(void)
{
    boxlite_runtime *runtime;
    boxlite_info_list *list;
    boxlite_error *error;
    boxlite_op *op;

    // Opens the database, and reads from it on another thread.
    if (boxlite_runtime_open(NULL, &runtime, &error) != BOXLITE_OK) {
        fprintf(stderr, "%s\n", boxlite_error_message(error));
        return 1;
    }
    if (boxlite_box_list(runtime, &op, NULL) != BOXLITE_OK)
        return 1;
    if (boxlite_op_wait(op, 60000, NULL) != BOXLITE_OK)
        return 1;
    if (boxlite_op_take_info_list(op, &list, NULL) != BOXLITE_OK)
        return 1;
    if (boxlite_info_list_count(list) != 0)
        return 1;
    boxlite_info_list_free(list);
    boxlite_op_free(op);
    if (other_panics() != 42)
        return 1;
    boxlite_runtime_free(runtime);
    puts("no clash");
    return 0;
}
