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

void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

// A string that is never freed: there are a few.
char *text(const char *format, ...)
{
    char *made;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&made, format, arguments) < 0)
        fail("out of memory");
    va_end(arguments);
    return made;
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

// The smallest sample that so many of a hundred do not exceed.
double quantile(const samples *s, size_t percent)
{
    if (s->count == 0)
        fail("a figure without samples");
    qsort(s->values, s->count, sizeof *s->values, ascending);
    return s->values[(percent * s->count + 99) / 100 - 1];
}

static summary summarize(const samples *s)
{
    size_t n = s->count;
    double p99 = quantile(s, 99);
    return (summary){
        .min = s->values[0],
        .median = (s->values[(n - 1) / 2] + s->values[n / 2]) / 2,
        .p99 = p99,
    };
}

// --- tables --------------------------------------------------------------------------------------

enum { MOST_FIGURES = 256, MOST_TABLES = 32 };

static struct {
    const char *title;
    size_t first;
} tables[MOST_TABLES];
static size_t table_count;
static figure figures[MOST_FIGURES];
static size_t figure_count;

// What is added from now on is part of a table of its own.
void add_table(const char *title)
{
    if (table_count == MOST_TABLES)
        fail("no room for another table");
    tables[table_count].title = title;
    tables[table_count++].first = figure_count;
}

// Names, units and samples must last until the report; samples may be added until then.
void add_figures(const figure *added, size_t count)
{
    if (count > MOST_FIGURES - figure_count)
        fail("no room for another figure");
    memcpy(figures + figure_count, added, count * sizeof *added);
    figure_count += count;
}

static double ratio_of(const figure *f)
{
    double baseline = summarize(f->baseline).median;
    return baseline > 0 ? summarize(f->measured).median / baseline : NAN;
}

static const char *verdict(const figure *f)
{
    bool of_value = f->aim_kind == VALUE_AT_MOST || f->aim_kind == VALUE_AT_LEAST;
    bool at_least = f->aim_kind == VALUE_AT_LEAST || f->aim_kind == RATIO_AT_LEAST;
    double value = of_value ? summarize(f->measured).median : ratio_of(f);
    return (at_least ? value >= f->aim : value <= f->aim) ? "PASS" : "MISS";
}

// The aim as text: of the ratio, or in the figure's unit.
static const char *aim_text(const figure *f)
{
    static char made[64];
    bool of_value = f->aim_kind == VALUE_AT_MOST || f->aim_kind == VALUE_AT_LEAST;
    bool at_least = f->aim_kind == VALUE_AT_LEAST || f->aim_kind == RATIO_AT_LEAST;
    snprintf(made, sizeof made, "%s %.2f%s%s", at_least ? ">=" : "<=", f->aim, of_value ? " " : "",
             of_value ? f->unit : "");
    return made;
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

void report(const circumstances *under)
{
    printf("\naccelerator %s, %ld cores, load average %.2f at the start, %d cold boots of each kind\n",
           under->accelerator, under->cores, under->load, under->runs);
    for (size_t i = 0, t = 0; i < figure_count; i++) {
        for (; t < table_count && tables[t].first == i; t++)
            printf("\n%-34s %-5s %5s %8s %8s %8s  %-22s %8s %8s %8s %6s  %s\n", tables[t].title,
                   "unit", "n", "min", "median", "p99", "baseline", "min", "median", "p99", "ratio",
                   "aim");
        print_line(&figures[i]);
    }
}

static void write_summary(FILE *file, const char *key, const samples *s)
{
    summary m = summarize(s);
    fprintf(file, "\"%s\": {\"count\": %zu, \"min\": %.4f, \"median\": %.4f, \"p99\": %.4f}", key,
            s->count, m.min, m.median, m.p99);
}

// Names and units are this program's own: nothing in them needs escaping.
static void write_figure(FILE *file, const char *table, const figure *f)
{
    fprintf(file, "    {\"table\": \"%s\", \"name\": \"%s\", \"unit\": \"%s\", ", table, f->name,
            f->unit);
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

void write_json(const char *path, const circumstances *under)
{
    FILE *file = fopen(path, "w");
    if (!file)
        fail("%s: %s", path, strerror(errno));
    fprintf(file, "{\n  \"accelerator\": \"%s\", \"cores\": %ld, \"load\": %.2f, \"runs\": %d,\n",
            under->accelerator, under->cores, under->load, under->runs);
    fputs("  \"figures\": [\n", file);
    for (size_t i = 0, t = 0; i < figure_count; i++) {
        while (t + 1 < table_count && tables[t + 1].first <= i)
            t++;
        write_figure(file, tables[t].title, &figures[i]);
        fputs(i + 1 < figure_count ? ",\n" : "\n", file);
    }
    fputs("  ]\n}\n", file);
    bool bad = ferror(file);
    if (fclose(file) != 0 || bad)
        fail("%s: could not be written", path);
}
