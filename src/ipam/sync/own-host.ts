/** Embedded: reads the host that this server runs on. */
import { probeAll, type Witness } from '../../witness/witness.ts';
import type { IpamContext } from '../context.ts';
import { oursIn } from '../ec2/enis.ts';
import type { Witnessed } from './witnessed.ts';

export interface OwnHostOptions {
  readonly witness: Witness;
  /** The longest pause between two readings. */
  readonly everyMs: number;
}

export interface OwnHost {
  readonly everyMs: number;
  /** Reads the host once, and makes the moves that the readings prove. */
  look(): Promise<void>;
}

export function createOwnHost(
  { store, host }: IpamContext,
  witnessed: Witnessed,
  { witness, everyMs }: OwnHostOptions,
): OwnHost {
  return {
    everyMs,
    async look() {
      const enis = oursIn(await store.enis(), host.instance);
      if (enis.length === 0) return;
      const round = await witnessed.begin(host.instance ?? '', enis);
      const weighed = await witnessed.weigh(round, await witness.read());
      if (weighed.toProbe.length > 0) await witnessed.end(weighed, await probeAll(witness, weighed.toProbe));
    },
  };
}
