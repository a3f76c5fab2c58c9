/* A VMID leaves one vSMMU and is given to another, of another VM (design, "Tags"; VSmmu::shutdown, S2Domain::detach,
 * HostTag). Holds: no device is translated by what its predecessor's page tables left in a TLB, and what is sent late for
 * the old holder does no harm.
 *
 * holds:
 * holds: NO_GRACE                the grace period is for the readers of the array; the VMID itself could go before
 * fails: NO_CFGI                 the aborting STE is not SYNCed: the cached one fills the TLB again
 * fails: FLUSH_FIRST             S12_VMALL before the STE aborts
 * fails: FLUSH_NOT_AWAITED       the VMID is free before the SYNC behind S12_VMALL
 * fails: NH_ALL_ONLY             stage-2 entries stay
 * fails: LOST_TAG_FREED          the STE could not be replaced, and the VMID is freed nevertheless
 * fails: ALLOCATED_WITHOUT_CAS   two take the VMID by a load and a store
 */
#define NOBODY 255
bool taken;                /* the bit in VmidAllocator; one VMID, so that it must be reused */
byte holders;              /* of it */
bool ste_table[2];         /* VM n's STE carries the VMID */
bool ste_cached[2];
byte entry = NOBODY;       /* whose page tables a stage-2 entry of the VMID comes from */
byte combined = NOBODY;
bool flush;                /* an S12_VMALL that no SYNC has completed */
bool reading;              /* a change of VM 0 with an array that has the tag: it will invalidate by the VMID */

proctype hardware(byte vm) {
end:
  do
  :: d_step { ste_table[vm] && !ste_cached[vm] -> ste_cached[vm] = true }
  :: atomic { ste_cached[vm] ->
       /* a transaction: by what is there, or by a walk of its own tables */
       assert(entry == NOBODY || entry == vm);
       assert(combined == NOBODY || combined == vm);
       entry = vm;
       combined = vm }
  od
}
proctype tlb() {
end:
  do
  :: d_step { flush -> flush = false; entry = NOBODY; combined = NOBODY }
  od
}

inline take_out(vm) {
  if
  :: ste_table[vm] = false;
#ifndef NO_CFGI
     ste_cached[vm] = false; /* CFGI_STE + SYNC */
#endif
     out = true
  :: vm == 0 -> out = false /* it could not be replaced */
  fi
}
inline flush_tag() {
#ifdef NH_ALL_ONLY
  combined = NOBODY
#else
  flush = true;
#ifndef FLUSH_NOT_AWAITED
  !flush
#endif
#endif
}

proctype vsmmu(byte vm) {
  bool out, was;
  /* VmidAllocator::allocate() */
end_exhausted:
#ifdef ALLOCATED_WITHOUT_CAS
  !taken;
  taken = true;
#else
  atomic { !taken -> taken = true };
#endif
  holders++;
  assert(holders == 1);
  ste_table[vm] = true;
  ste_cached[vm] = false;
  /* ... */
#ifdef FLUSH_FIRST
  flush_tag();
#endif
  take_out(vm);
  if
#ifndef LOST_TAG_FREED
  :: !out -> goto lost /* the tag is leaked: a lost VMID harms nobody */
#endif
  :: else
  fi;
#ifndef FLUSH_FIRST
  flush_tag();
#endif
  /* unpublished; */
#ifndef NO_GRACE
  !(vm == 0 && reading);
#endif
  holders--;
  taken = false;
lost:
  skip
}

/* A change of VM 0's stage 2 that has loaded the array before the tag left it. */
proctype change() {
  reading = true;
  /* S2_IPA, NH_ALL by the VMID, whoever holds it by now: it only costs him */
  d_step { entry = NOBODY };
  d_step { combined = NOBODY };
  reading = false
}

init {
  atomic {
    run hardware(0);
    run hardware(1);
    run tlb();
    run vsmmu(0);
    run vsmmu(1);
    run change()
  }
}
