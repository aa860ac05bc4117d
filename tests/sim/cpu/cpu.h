/* The processor of the simulator: the real one, except that its cycle counter belongs to the run. Found before arch/<cpu>/cpu.h. */
#ifndef WEFT_SIM_CPU_H
#define WEFT_SIM_CPU_H

#include <stdint.h>

uint64_t sim_cycles(void); /* os_sim.c */

#define weft_cpu_cycles weft_cpu_cycles_of_the_machine
#include_next "cpu.h"
#undef weft_cpu_cycles

static inline uint64_t weft_cpu_cycles(void) { return sim_cycles(); }

#endif
