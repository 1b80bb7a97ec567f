// A box that is stopped, as all can see, is started by a command, whoever stopped it.
#include "check.h"

int main(void)
{
    for (int i = 0; i < 8; i++) {
        boxlite_runtime *a = open_runtime(), *b = open_runtime();
        boxlite_box *box = new_box(a), *same;
        boxlite_op *op;
        OK(boxlite_box_get(b, boxlite_box_id(box), &op, &error));
        OK(boxlite_op_wait(op, 60000, &error));
        OK(boxlite_op_take_box(op, &same, &error));
        boxlite_op_free(op);
        PRINTS(box, "echo ours", "ours\n");
        PRINTS(same, "echo attached", "attached\n");
        // It ends with the runtime that started it.
        boxlite_box_free(box);
        boxlite_runtime_free(a);
        EVENTUALLY(status_of(same) == BOXLITE_BOX_STOPPED);
        PRINTS(same, "echo mine now", "mine now\n");
        remove_box(b, same);
        close_runtime(b);
    }
    return 0;
}
