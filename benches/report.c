// Statistics, the table and the JSON file.
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

void add(samples *s, double value)
{
    if (!s->values)
        s->values = calloc(MAX_SAMPLES, sizeof *s->values);
    if (!s->values || s->count == MAX_SAMPLES)
        fail("no room for another sample");
    s->values[s->count++] = value;
}

typedef struct {
    double min, median, p99;
} summary;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static summary summarize(const samples *s)
{
    if (s->count == 0)
        fail("a figure without samples");
    size_t n = s->count;
    qsort(s->values, n, sizeof *s->values, ascending);
    size_t rank = (99 * n + 99) / 100;
    return (summary){
        .min = s->values[0],
        .median = (s->values[(n - 1) / 2] + s->values[n / 2]) / 2,
        .p99 = s->values[rank - 1],
    };
}

static double ratio_of(const figure *f)
{
    double baseline = summarize(f->baseline).median;
    return baseline > 0 ? summarize(f->measured).median / baseline : NAN;
}

static const char *verdict(const figure *f)
{
    bool met = f->aim_kind == VALUE_AT_MOST    ? summarize(f->measured).median <= f->aim
               : f->aim_kind == RATIO_AT_MOST ? ratio_of(f) <= f->aim
                                               : ratio_of(f) >= f->aim;
    return met ? "PASS" : "MISS";
}

// The aim as text: of the ratio, or in the figure's unit.
static const char *aim_text(const figure *f)
{
    static char text[64];
    snprintf(text, sizeof text, "%s %.2f%s%s", f->aim_kind == RATIO_AT_LEAST ? ">=" : "<=", f->aim,
             f->aim_kind == VALUE_AT_MOST ? " " : "", f->aim_kind == VALUE_AT_MOST ? f->unit : "");
    return text;
}

static void print_line(const figure *f)
{
    summary m = summarize(f->measured);
    printf("%-34s %-5s %5zu %8.2f %8.2f %8.2f", f->name, f->unit, f->measured->count, m.min,
           m.median, m.p99);
    if (f->baseline) {
        summary b = summarize(f->baseline);
        printf("  %-22s %8.2f %8.2f %8.2f %6.2f", f->baseline_name, b.min, b.median, b.p99,
               ratio_of(f));
    } else if (f->aim_kind != NO_AIM) {
        printf("  %-22s %8s %8s %8s %6s", "", "", "", "", "");
    }
    if (f->aim_kind != NO_AIM)
        printf("  %-10s %s", aim_text(f), verdict(f));
    putchar('\n');
}

void report(const figure *figures, size_t count, const circumstances *under)
{
    printf("\naccelerator %s, %ld cores, load average %.2f at the start, %d cold boots of each kind\n\n",
           under->accelerator, under->cores, under->load, under->runs);
    printf("%-34s %-5s %5s %8s %8s %8s  %-22s %8s %8s %8s %6s  %s\n", "figure", "unit", "n", "min",
           "median", "p99", "baseline", "min", "median", "p99", "ratio", "aim");
    for (size_t i = 0; i < count; i++)
        print_line(&figures[i]);
}

static void write_summary(FILE *file, const char *key, const samples *s)
{
    summary m = summarize(s);
    fprintf(file, "\"%s\": {\"count\": %zu, \"min\": %.4f, \"median\": %.4f, \"p99\": %.4f}", key,
            s->count, m.min, m.median, m.p99);
}

// Names and units are this program's own: nothing in them needs escaping.
static void write_figure(FILE *file, const figure *f)
{
    fprintf(file, "    {\"name\": \"%s\", \"unit\": \"%s\", ", f->name, f->unit);
    write_summary(file, "measured", f->measured);
    if (f->baseline) {
        fprintf(file, ", \"baseline_name\": \"%s\", ", f->baseline_name);
        write_summary(file, "baseline", f->baseline);
        fprintf(file, ", \"ratio\": %.4f", ratio_of(f));
    }
    if (f->aim_kind != NO_AIM)
        fprintf(file, ", \"aim\": \"%s\", \"verdict\": \"%s\"", aim_text(f), verdict(f));
    fputc('}', file);
}

void write_json(const char *path, const figure *figures, size_t count, const circumstances *under)
{
    FILE *file = fopen(path, "w");
    if (!file)
        fail("%s: %s", path, strerror(errno));
    fprintf(file, "{\n  \"accelerator\": \"%s\", \"cores\": %ld, \"load\": %.2f, \"runs\": %d,\n",
            under->accelerator, under->cores, under->load, under->runs);
    fputs("  \"figures\": [\n", file);
    for (size_t i = 0; i < count; i++) {
        write_figure(file, &figures[i]);
        fputs(i + 1 < count ? ",\n" : "\n", file);
    }
    fputs("  ]\n}\n", file);
    bool bad = ferror(file);
    if (fclose(file) != 0 || bad)
        fail("%s: could not be written", path);
}
