// How far the clock of a restored box is from the host's.
//
// A program in the box tells the time whenever it is asked. Its answer belongs to the middle of the
// round trip; of several the shortest one counts.
#include "boxes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BOXES = 10, QUESTIONS = 20 };

static samples skews, trips;

static const figure FIGURES[] = {
    {"guest's clock less the host's", "ms", &skews, NULL, NULL, NO_AIM, 0},
    {"round trip of the question", "ms", &trips, NULL, NULL, NO_AIM, 0},
};

static double time_of_day_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

// Asks once; the guest's time in ms.
static double ask_guest(boxlite_runtime *runtime, boxlite_exec *exec, output *out)
{
    memset(out, 0, sizeof *out);
    write_stdin(exec, "\n", 1);
    while (!memchr(out->text, '\n', sizeof out->text))
        MUST(boxlite_dispatch(runtime, PATIENCE_MS, NULL, &error));
    return strtod(out->text, NULL) * 1e3;
}

static void compare(boxlite_runtime *runtime, boxlite_exec *exec, output *out)
{
    double best = 0, skew = 0;
    for (int i = 0; i < QUESTIONS; i++) {
        double before = time_of_day_ms();
        double guest = ask_guest(runtime, exec, out);
        double after = time_of_day_ms();
        if (i == 0 || after - before < best) {
            best = after - before;
            skew = guest - (before + after) / 2;
        }
    }
    add(&skews, skew);
    add(&trips, best);
}

static void look_at_clock(boxlite_runtime *runtime, const plan *p)
{
    const char *argv[] = {"/inside", "clock"};
    output out = {0};
    boxlite_box *box = create(runtime, p->image, false);
    start(box);
    install(box, p->programs, "inside");
    boxlite_exec *exec = start_command(box, argv, 2, true);
    MUST(boxlite_exec_on_stdout(exec, on_output, &out, NULL, &error));
    compare(runtime, exec, &out);
    MUST(boxlite_exec_close_stdin(exec, &error));
    end_command(exec, argv[0], &out);
    discard(runtime, box);
}

void measure_clocks(boxlite_runtime *runtime, const plan *p)
{
    add_table("the clock of a restored box");
    add_figures(FIGURES, sizeof FIGURES / sizeof FIGURES[0]);
    for (int i = 0; i < BOXES; i++) {
        fprintf(stderr, "\rbench: clocks %d/%d ", i + 1, BOXES);
        look_at_clock(runtime, p);
    }
    fputc('\n', stderr);
}
