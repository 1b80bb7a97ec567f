// The library's calls, as the benchmark needs them: each must succeed.
#include "boxes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

boxlite_error *error;

void must(boxlite_status status, const char *what)
{
    if (status != BOXLITE_OK)
        fail("%s: %s: %s", what, boxlite_status_name(status), boxlite_error_message(error));
}

void finish(boxlite_op *op, const char *what)
{
    must(boxlite_op_wait(op, PATIENCE_MS, &error), what);
    boxlite_op_free(op);
}

boxlite_runtime *open_runtime(const char *home, uint32_t pool_size, const char *pool_image)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    MUST(boxlite_runtime_options_new(&options, &error));
    MUST(boxlite_runtime_options_set_home(options, home, &error));
    MUST(boxlite_runtime_options_set_pool_size(options, pool_size, &error));
    if (pool_image)
        MUST(boxlite_runtime_options_set_pool_image(options, pool_image, 10240, &error));
    MUST(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

boxlite_box *create(boxlite_runtime *runtime, const char *image, bool cold)
{
    boxlite_box_options *options;
    boxlite_box *box;
    boxlite_op *op;
    MUST(boxlite_box_options_new(image, &options, &error));
    MUST(boxlite_box_options_set_cold_boot(options, cold, &error));
    MUST(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    MUST(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    return box;
}

void stop(boxlite_box *box)
{
    boxlite_op *op;
    MUST(boxlite_box_stop(box, 5000, &op, &error));
    finish(op, "stop");
}

void start(boxlite_box *box)
{
    boxlite_op *op;
    MUST(boxlite_box_start(box, &op, &error));
    finish(op, "start");
}

boxlite_box_info *inspect(boxlite_box *box)
{
    boxlite_box_info *info;
    boxlite_op *op;
    MUST(boxlite_box_inspect(box, &op, &error));
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    MUST(boxlite_op_take_info(op, &info, &error));
    boxlite_op_free(op);
    return info;
}

void discard(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    MUST(boxlite_box_remove(runtime, boxlite_box_id(box), true, &op, &error));
    finish(op, "remove");
    boxlite_box_free(box);
}

void on_output(void *user_data, const uint8_t *data, size_t length)
{
    output *o = user_data;
    if (o->length == 0)
        o->first_byte = now_ms();
    if (o->length < sizeof o->text - 1) {
        size_t room = sizeof o->text - 1 - o->length;
        memcpy(o->text + o->length, data, length < room ? length : room);
    }
    o->length += length;
}

boxlite_exec *start_command(boxlite_box *box, const char *const *argv, size_t argc,
                                   bool has_stdin)
{
    boxlite_exec_options *options;
    boxlite_exec *exec;
    boxlite_op *op;
    MUST(boxlite_exec_options_new(argv, argc, &options, &error));
    MUST(boxlite_exec_options_set_stdin(options, has_stdin, &error));
    MUST(boxlite_box_exec(box, options, &op, &error));
    boxlite_exec_options_free(options);
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    MUST(boxlite_op_take_exec(op, &exec, &error));
    boxlite_op_free(op);
    return exec;
}

// Waits for a command's success; frees it.
void end_command(boxlite_exec *exec, const char *name, output *out)
{
    int32_t code;
    output err = {0};
    MUST(boxlite_exec_on_stdout(exec, on_output, out, NULL, &error));
    MUST(boxlite_exec_on_stderr(exec, on_output, &err, NULL, &error));
    MUST(boxlite_exec_wait(exec, PATIENCE_MS, &code, &error));
    boxlite_exec_free(exec);
    if (code != 0)
        fail("%s ended with code %d: %s", name, (int)code, err.text);
}

void run(boxlite_box *box, const char *const *argv, size_t argc, output *out)
{
    end_command(start_command(box, argv, argc, false), argv[0], out);
}

void run_shell(boxlite_box *box, const char *script, output *out)
{
    const char *argv[] = {"/bin/sh", "-c", script};
    run(box, argv, 3, out);
}

void write_stdin(boxlite_exec *exec, const char *data, size_t length)
{
    for (size_t sent = 0, written; sent < length; sent += written) {
        boxlite_status status =
            boxlite_exec_write(exec, (const uint8_t *)data + sent, length - sent, &written, &error);
        if (status != BOXLITE_WOULD_BLOCK) {
            must(status, "boxlite_exec_write");
            continue;
        }
        boxlite_error_free(error);
        error = NULL;
        written = 0;
        pause_ms(1);
    }
}

// Copies a program from the host into the box's root directory.
void install(boxlite_box *box, const char *directory, const char *name)
{
    char path[4096], script[128], block[65536];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(script, sizeof script, "cat > /%s && chmod 755 /%s", name, name);
    const char *argv[] = {"/bin/sh", "-c", script};
    boxlite_exec *exec = start_command(box, argv, 3, true);
    FILE *file = fopen(path, "r");
    if (!file)
        fail("%s: %s", path, strerror(errno));
    for (size_t length; (length = fread(block, 1, sizeof block, file)) > 0;)
        write_stdin(exec, block, length);
    fclose(file);
    MUST(boxlite_exec_close_stdin(exec, &error));
    output out = {0};
    end_command(exec, script, &out);
}
