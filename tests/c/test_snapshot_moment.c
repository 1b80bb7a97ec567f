// A snapshot of a running box is one point in time: a process writes numbered records with checksums, and
// says of each when it is on the disk. Each snapshot has a beginning of them, with all that were said to
// be there before it was asked for, and none that were begun after it was made.
#include "program.h"
#include "snapshots.h"

enum { SNAPSHOTS = 4, EACH = 60, AFTER = 1000 };

// The number of the last record that the writer has said is on the disk.
static long acknowledged(boxlite_exec *writer)
{
    static long last;
    static char line[32];
    static size_t length;
    uint8_t buffer[4096];
    size_t got;
    while (boxlite_exec_read(writer, BOXLITE_STDOUT, buffer, sizeof buffer, &got, NULL) == BOXLITE_OK && got)
        for (size_t i = 0; i < got; i++) {
            CHECK(length < sizeof line - 1);
            line[length++] = (char)buffer[i];
            if (buffer[i] == '\n') {
                line[length] = 0;
                length = 0;
                CHECK(atol(line) == last + 1);
                last++;
            }
        }
    return last;
}

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime);
    boxlite_exec *writer = start(box, "i=0; while :; do i=$((i+1)); set -- $(echo $i | md5sum); "
                                      "echo \"$i $1\" >> /records; sync /records; echo $i; done");
    long before[SNAPSHOTS], after[SNAPSHOTS];
    char sums[SNAPSHOTS][80], name[SNAPSHOTS][16], path[64];
    for (int i = 0; i < SNAPSHOTS; i++) {
        EVENTUALLY(acknowledged(writer) >= (i + 1) * EACH);
        snprintf(name[i], sizeof name[i], "s%d", i);
        before[i] = acknowledged(writer);
        make_snapshot(box, name[i]);
        after[i] = acknowledged(writer);
        snprintf(path, sizeof path, "snapshots/%s/disk.qcow2", name[i]);
        strcpy(sums[i], word_of("sha256sum '%s'", in_box(box, path)));
    }
    // It goes on as if nothing had been, and what is behind it stays.
    EVENTUALLY(acknowledged(writer) >= after[SNAPSHOTS - 1] + AFTER);
    boxlite_exec_free(writer);
    stop(box);
    for (int i = 0; i < SNAPSHOTS; i++) {
        snprintf(path, sizeof path, "snapshots/%s/disk.qcow2", name[i]);
        CHECK(!strcmp(sums[i], word_of("sha256sum '%s'", in_box(box, path))));
        OK(try_restore(box, name[i]));
        char *text = output_of(box, "n=0; while read i sum; do n=$((n+1)); set -- $(echo $i | md5sum); "
                                    "[ $i = $n ] && [ $sum = $1 ] || { echo record $i at $n; exit; }; "
                                    "done < /records; echo $n");
        char *end;
        long found = strtol(text, &end, 10);
        // One more may have been on the disk, and not said to be yet.
        if (*end != '\n' || found < before[i] || found > after[i] + 1)
            FAIL("snapshot %d: '%s', of %ld before and %ld after", i, text, before[i], after[i]);
        free(text);
        stop(box);
        CHECK(succeeds("qemu-img check -q \"%s\"", in_box(box, "disks/disk.qcow2")));
    }
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
