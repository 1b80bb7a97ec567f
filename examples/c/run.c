// Runs one command in a box of its own: the shortest way.
//
//   run IMAGE [COMMAND [ARGUMENT...]]
#include <boxlite.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    boxlite_error *error = NULL;
    boxlite_output *output;
    const char *const *words = (const char *const *)argv + 2;
    size_t limit = 1 << 20, length; // at most 1 MiB of each output; one minute

    if (argc < 2) {
        fprintf(stderr, "usage: run IMAGE [COMMAND [ARGUMENT...]]\n");
        return 125;
    }
    if (boxlite_run(NULL, argv[1], words, (size_t)argc - 2, limit, 60000, &output, &error)) {
        fprintf(stderr, "run: %s\n", boxlite_error_message(error));
        boxlite_error_free(error);
        return 125;
    }
    const uint8_t *bytes = boxlite_output_bytes(output, BOXLITE_STDOUT, &length);
    fwrite(bytes, 1, length, stdout);
    bytes = boxlite_output_bytes(output, BOXLITE_STDERR, &length);
    fwrite(bytes, 1, length, stderr);
    if (boxlite_output_message(output)) // the command could not be run
        fprintf(stderr, "run: %s\n", boxlite_output_message(output));
    int code = boxlite_output_code(output);
    boxlite_output_free(output);
    return code;
}
