/* Hides what came after AVX2 from a program, so that its libraries do what they would do on an older processor.

   cc -shared -fPIC -O2 benchmarks/avx2.c -o avx2.so; LD_PRELOAD=./avx2.so COMMAND

   Libraries ask the processor what it can do by the instruction CPUID. Here Linux makes it fail (arch_prctl(2),
   ARCH_SET_CPUID), and its answer is given without the bits of AVX-512, VNNI, AMX and their like. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define SET_CPUID 0x1012

static void allow(int allowed) {
    if (syscall(SYS_arch_prctl, SET_CPUID, allowed)) {
        perror("avx2: this machine cannot hide its instructions");
        _exit(1);
    }
}

static void answer(int signal_number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    unsigned a = registers[REG_RAX], b, c = registers[REG_RCX], d, leaf = a, part = c;
    (void)info;
    if (code[0] != 0x0f || code[1] != 0xa2) { /* a true fault */
        signal(signal_number, SIG_DFL);
        return;
    }
    allow(1);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    allow(0);
    if (leaf == 7 && part == 0) {
        b &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31); /* AVX-512 */
        c &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);                         /* more of it, VNNI */
        d &= ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25); /* more of it, AMX */
    } else if (leaf == 7) {
        a = d = 0; /* AVX-VNNI and later */
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    allow(0);
}
