// The library's calls, as the benchmark needs them; see boxes.c.
#ifndef BOXES_H
#define BOXES_H

#include "bench.h"

#include <boxlite.h>
#include <stdint.h>

// Only guards against hanging.
enum { PATIENCE_MS = 120000 };

// What came out of a command.
typedef struct {
    double first_byte;
    size_t length;
    char text[4096];
} output;

// That of the call that failed last.
extern boxlite_error *error;

// A call that must succeed.
void must(boxlite_status status, const char *what);
#define MUST(call) must((call), #call)

void finish(boxlite_op *op, const char *what);

// With machines that wait for boxes of an image, or of any image if that is NULL.
boxlite_runtime *open_runtime(const char *home, uint32_t pool_size, const char *pool_image);
boxlite_box *create(boxlite_runtime *runtime, const char *image, bool cold);
void start(boxlite_box *box);
void stop(boxlite_box *box);
boxlite_box_info *inspect(boxlite_box *box);
void discard(boxlite_runtime *runtime, boxlite_box *box);

void on_output(void *user_data, const uint8_t *data, size_t length);
boxlite_exec *start_command(boxlite_box *box, const char *const *argv, size_t argc, bool has_stdin);
void end_command(boxlite_exec *exec, const char *name, output *out);
void run(boxlite_box *box, const char *const *argv, size_t argc, output *out);
void run_shell(boxlite_box *box, const char *script, output *out);
void write_stdin(boxlite_exec *exec, const char *data, size_t length);
void install(boxlite_box *box, const char *directory, const char *name);

// What is measured, each in its own file.
char **learn_arguments(boxlite_box *box, circumstances *under);
void measure_boots(boxlite_runtime *runtime, const plan *p, char *const *arguments);
void measure_commands(boxlite_runtime *runtime, const plan *p, char *const *arguments);
void measure_starts(boxlite_runtime *runtime, const plan *p, char *const *arguments,
                    const template *bare);
void measure_many(boxlite_runtime *runtime, const plan *p);
void measure_idle(boxlite_runtime *runtime, const plan *p, const template *bare);
void measure_clocks(boxlite_runtime *runtime, const plan *p);
void measure_ends(boxlite_runtime *runtime, const plan *p);
void measure_snapshots(boxlite_runtime *runtime, const plan *p);
void measure_archives(boxlite_runtime *runtime, const plan *p);

#endif
