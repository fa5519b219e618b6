/** The transcript of a probe: what EC2 answered, without what tells whose account it was. */
import * as v from 'valibot';
import { CARRIED_KINDS } from '../cloud/verbatim.ts';
import { type Cidr, formatCidr, fromNumber, toNumber } from '../domain/address.ts';
import { ERROR_CODES, IpamError } from '../domain/error.ts';
import { parseEniId } from '../domain/ids.ts';
import type { Facts } from './facts.ts';
import type { Outcome } from './probe.ts';

const eniId = v.pipe(
  v.string(),
  v.regex(/^eni-[0-9a-f]{1,24}$/),
  v.transform(text => parseEniId(text)),
);
const VerdictSchema = v.nullable(v.strictObject({ code: v.string(), text: v.string() }));
const CallSchema = v.variant('verb', [
  v.strictObject({
    verb: v.picklist(['assign', 'unassign']),
    kind: v.picklist(CARRIED_KINDS),
    eni: eniId,
    names: v.array(v.string()),
  }),
  v.strictObject({ verb: v.literal('describe'), eni: eniId }),
]);
const TranscriptSchema = v.strictObject({
  format: v.literal('ec2-ipam probe 1'),
  /** The day, and the Region: EC2 may answer otherwise another day and elsewhere. */
  on: v.string(),
  region: v.string(),
  subnet: v.strictObject({ id: v.string(), cidr: v.string() }),
  instanceType: v.nullable(v.string()),
  limit: v.nullable(v.number()),
  /** The one that was probed, and one that has an address that was asked for. */
  enis: v.array(v.strictObject({ id: eniId, primary: v.string() })),
  tried: v.array(
    v.strictObject({
      name: v.string(),
      call: CallSchema,
      because: v.string(),
      expected: VerdictSchema,
      /** Absent: there was no answer. */
      seen: v.optional(VerdictSchema),
      ours: v.picklist(['done', ...ERROR_CODES]),
      shownAfterMs: v.optional(v.nullable(v.number())),
    }),
  ),
  leftOut: v.array(v.strictObject({ name: v.string(), why: v.string() })),
  calls: v.number(),
  changes: v.number(),
});
export type Transcript = v.InferOutput<typeof TranscriptSchema>;

export interface About {
  /** As 2026-11-26. */
  readonly on: string;
  readonly region: string;
  readonly calls: number;
  readonly changes: number;
}

/** Returns the transcript as text. */
export function transcriptOf(facts: Facts, { tried, leftOut }: Outcome, about: About): string {
  const { eni, primary, subnet, cidr, instanceType, limit, neighbour } = facts;
  const { on, region, calls, changes } = about;
  const whole: Transcript = {
    format: 'ec2-ipam probe 1',
    on,
    region,
    subnet: { id: subnet, cidr: formatCidr(cidr) },
    instanceType,
    limit,
    enis: [
      { id: eni, primary },
      ...(neighbour === null ? [] : [{ id: neighbour.eni, primary: neighbour.primary }]),
    ],
    tried: tried.map(({ call, ...one }) => ({
      ...one,
      call: call.verb === 'describe' ? call : { ...call, names: [...call.names] },
    })),
    leftOut: [...leftOut],
    calls,
    changes,
  };
  return `${anonymous(JSON.stringify(whole, null, 2), cidr)}\n`;
}

/** Throws bad-request for a text that is no transcript. */
export function parseTranscript(text: string, what: string): Transcript {
  try {
    return v.parse(TranscriptSchema, JSON.parse(text));
  } catch (error) {
    throw new IpamError('bad-request', `${what} is not a transcript of a probe: ${(error as Error).message}`);
  }
}

/** Where the subnet begins in a transcript. */
const SUBNET_FIRST = 10 * 2 ** 24;
const ELSEWHERE = '192.0.2.1';
const ACCOUNT = '123456789012';

/**
 * Returns the text with other ids, accounts, ARNs and addresses. An address of the subnet, or beside it, keeps its
 * distance to the first one; any other is lost. EC2 may quote what it likes, so what is long and looks random is cut.
 */
export function anonymous(text: string, cidr: Cidr): string {
  const ids = new Map<string, string>();
  const numbered = (id: string): string => {
    const [kind] = /^.*(?=-)/.exec(id) ?? [''];
    const known = [...ids.keys()].filter(one => one.startsWith(`${kind}-`)).length;
    if (!ids.has(id)) ids.set(id, `${kind}-${(known + 1).toString(16).padStart(17, '0')}`);
    return ids.get(id) ?? '';
  };
  const moved = (ip: string): string => {
    const number = toNumber(ip);
    if (number === null) return ip; // such as the malformed one
    const isNear = number >= cidr.first - 1 && number <= cidr.last + 1;
    return isNear ? fromNumber(number - cidr.first + SUBNET_FIRST) : ELSEWHERE;
  };
  return text
    .replace(/\barn:[^\s"\\]+/g, 'arn:…')
    .replace(/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, 'request')
    .replace(/\b(eni|subnet|vpc|i)-[0-9a-f]{1,24}\b|\b[a-z-]{1,16}-[0-9a-f]{8,24}\b/g, numbered)
    .replace(/(?<![\w-])\d{12}(?![\w-])/g, ACCOUNT)
    .replace(/(?<![\w.])\d{1,3}(\.\d{1,3}){3}(?![\w.]*\d)/g, moved)
    .replace(/(?<![\w:])[0-9a-f]{1,4}(:[0-9a-f]{0,4}){2,7}(?=\/)/gi, '2001:db8::')
    .replace(/[\w+=-]{48,}/g, '…');
}
