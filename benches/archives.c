// What an archive of a box takes to write and to read, beside QEMU's own program and zstd's doing the same
// by hand.
#include "boxes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 3, DATA_MIB = 512 };

static struct {
    samples out, in, out_by_hand, in_by_hand, size, size_by_hand;
} taken;

static const figure FIGURES[] = {
    {"export, 512 MiB of files", "ms", &taken.out, "by hand", &taken.out_by_hand, RATIO_AT_MOST, 1.25},
    {"import", "ms", &taken.in, "by hand", &taken.in_by_hand, NO_AIM, 0},
    {"archive", "MiB", &taken.size, "by hand", &taken.size_by_hand, NO_AIM, 0},
};

static void host(char *command)
{
    if (system(command) != 0)
        fail("failed: %s", command);
    free(command);
}

static double timed(char *command)
{
    double began = now_ms();
    host(command);
    return now_ms() - began;
}

static double size_of(const char *path)
{
    double bytes = 0;
    char *command = text("stat -c %%s %s", path);
    FILE *pipe = popen(command, "r");
    if (!pipe || fscanf(pipe, "%lf", &bytes) != 1 || pclose(pipe) != 0)
        fail("failed: %s", command);
    free(command);
    return bytes / (1 << 20);
}

// A box whose disk holds what files of programs are like.
static boxlite_box *with_files(boxlite_runtime *runtime, const plan *p)
{
    boxlite_box *box = create(runtime, p->image, false);
    char *disk = text("%s/boxes/%s/disks/disk.qcow2", p->home, boxlite_box_id(box));
    host(text("tar -cf - /usr/lib /usr/bin 2>/dev/null | head -c %dM > %s/files && "
              "qemu-io -c \"write -q -s %s/files 2G $(stat -c %%s %s/files)\" %s && rm %s/files",
              DATA_MIB, p->home, p->home, p->home, disk, p->home));
    free(disk);
    return box;
}

static double export(boxlite_box *box, const char *path)
{
    boxlite_op *op;
    double began = now_ms();
    MUST(boxlite_box_export(box, path, NULL, &op, &error));
    finish(op, "export");
    return now_ms() - began;
}

static double import(boxlite_runtime *runtime, const char *path)
{
    boxlite_op *op;
    boxlite_box *box;
    double began = now_ms();
    MUST(boxlite_box_import(runtime, path, NULL, &op, &error));
    MUST(boxlite_op_wait(op, PATIENCE_MS, &error));
    double elapsed = now_ms() - began;
    MUST(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    discard(runtime, box);
    return elapsed;
}

void measure_archives(boxlite_runtime *runtime, const plan *p)
{
    add_table("archives");
    add_figures(FIGURES, sizeof FIGURES / sizeof *FIGURES);
    boxlite_box *box = with_files(runtime, p);
    char *disk = text("%s/boxes/%s/disks/disk.qcow2", p->home, boxlite_box_id(box));
    char *ours = text("%s/ours", p->home), *theirs = text("%s/theirs", p->home);
    for (int i = 0; i < ROUNDS; i++) {
        fprintf(stderr, "\rbench: archives %d/%d ", i + 1, ROUNDS);
        add(&taken.out, export(box, ours));
        // On as many threads as the library has.
        add(&taken.out_by_hand, timed(text("qemu-img convert -O qcow2 %s %s && zstd -q -T0 --rm %s -o %s.zst && "
                                           "sync %s.zst", disk, theirs, theirs, theirs, theirs)));
        add(&taken.size, size_of(ours));
        char *packed = text("%s.zst", theirs);
        add(&taken.size_by_hand, size_of(packed));
        add(&taken.in, import(runtime, ours));
        add(&taken.in_by_hand, timed(text("zstd -q -d --rm %s -o %s && qemu-img check -q %s && sync %s", packed, theirs,
                                          theirs, theirs)));
        free(packed);
        host(text("rm %s %s", ours, theirs));
    }
    fputc('\n', stderr);
    free(disk), free(ours), free(theirs);
    discard(runtime, box);
}
