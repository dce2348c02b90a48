/* Count the guest's instructions, one number for each processor, in a file that others can read while it runs.
 *
 *   -plugin instructions.so,out=FILE      FILE: 64 numbers of 64 bits, of the processors 0, 1, …
 *
 * QEMU's interface for plugins (include/qemu/qemu-plugin.h), as far as it is used here: it is the same from QEMU 4.2
 * on, but for the number of its version. Compiled by bench/counting.py when it is needed; no package has to bring a header.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PROCESSORS 64
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct block; /* a piece of code that QEMU translates at once */

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id, struct block *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct block *block, void (*call)(unsigned, void *), int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct block *block);

EXPORT int qemu_plugin_version = API;

static volatile uint64_t *counts;

static void executed(unsigned processor, void *instructions)
{
    counts[processor % PROCESSORS] += (uintptr_t)instructions;
}

static void translated(plugin_id id, struct block *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int each = 0; each < argc; each++) {
        if (strncmp(argv[each], "out=", 4) != 0)
            continue;
        int file = open(argv[each] + 4, O_RDWR | O_CLOEXEC);
        if (file < 0)
            return 1;
        counts = mmap(NULL, PROCESSORS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (counts == MAP_FAILED)
            return 1;
        qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
        return 0;
    }
    fputs("instructions: out=FILE is missing\n", stderr);
    return 1;
}
