/** Replays a transcript on the simulator, and says where the simulator answers otherwise than EC2 did. */
import { refusal } from '../cloud/refusals.ts';
import { createVerbatimMemory } from '../cloud/verbatim-memory.ts';
import { buildVpc } from '../simulator/model/world.ts';
import type { Verdict } from './probe.ts';
import type { Transcript } from './transcript.ts';

export interface Compared {
  readonly name: string;
  readonly ec2: Verdict;
  readonly simulator: Verdict;
  /** What differs; empty: nothing. */
  readonly differs: readonly ('code' | 'text' | 'meaning')[];
}

export interface Comparison {
  readonly compared: readonly Compared[];
  readonly notCompared: readonly { readonly name: string; readonly why: string }[];
  readonly delays: readonly { readonly name: string; readonly shownAfterMs: number | null }[];
}

const INSTANCE = 'i-00000000000000001';
/** Of the probed instance, in place of EC2's own: only the limit of addresses matters. */
const TYPE = 'as.probed';

export async function checkTranscript(transcript: Transcript): Promise<Comparison> {
  const ec2 = createVerbatimMemory(vpcOf(transcript));
  const compared: Compared[] = [];
  const notCompared: { name: string; why: string }[] = [];
  for (const { name, call, seen } of transcript.tried) {
    if (seen === undefined) notCompared.push({ name, why: 'EC2 gave no answer' });
    else if (call.verb !== 'describe' && call.kind === 'ipv6-prefixes')
      notCompared.push({ name, why: 'the simulator has no IPv6' });
    else {
      const answer = call.verb === 'describe' ? await ec2.eni(call.eni) : await ec2.change(call);
      const simulator: Verdict = answer.code === null ? null : answer;
      compared.push({ name, ec2: seen, simulator, differs: differencesOf(seen, simulator) });
    }
  }
  const delays = transcript.tried.flatMap(({ name, shownAfterMs }) =>
    shownAfterMs === undefined ? [] : [{ name, shownAfterMs }],
  );
  return { compared, notCompared, delays };
}

/** The subnet with the ENIs that the transcript names, as they were before the first call. */
function vpcOf({ region, subnet, limit, enis }: Transcript) {
  const isAttached = limit !== null;
  return buildVpc(
    {
      region,
      instanceTypes: isAttached ? { [TYPE]: { enis: enis.length + 1, addressesPerEni: limit } } : {},
      subnets: [subnet],
      instances: isAttached ? [{ id: INSTANCE, type: TYPE }] : [],
      enis: enis.map(({ id, primary }, index) => ({
        id,
        primary,
        subnet: subnet.id,
        ...(isAttached && index === 0 ? { attachment: { instance: INSTANCE, deviceIndex: 1 } } : {}),
      })),
    },
    { now: () => 0, random: () => 0.5, bucketScale: null },
  );
}

export function differencesOf(ec2: Verdict, simulator: Verdict): Compared['differs'] {
  const differs: ('code' | 'text' | 'meaning')[] = [];
  if (ec2?.code !== simulator?.code) differs.push('code');
  if (normal(ec2?.text) !== normal(simulator?.text)) differs.push('text');
  if (meaningOf(ec2) !== meaningOf(simulator)) differs.push('meaning');
  return differs;
}

/** Space and the last full stop tell nothing. */
const normal = (text = ''): string => text.replace(/\s+/g, ' ').trim().replace(/\.$/, '');
export const meaningOf = (verdict: Verdict): string =>
  verdict === null ? 'done' : refusal(verdict.code, verdict.text).code;
