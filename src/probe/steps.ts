/** What a probe tries, as a table: what is sent, what EC2 is expected to answer, and why that is believed. */
import type { Change } from '../cloud/verbatim.ts';
import { fromNumber, type Ipv4 } from '../domain/address.ts';
import type { EniId } from '../domain/ids.ts';
import { type Ec2Error, refuse } from '../simulator/model/ec2-error.ts';
import { type Facts, outsideOf } from './facts.ts';

/** A change, or a description of an ENI by its id. */
export type Call = Change | { readonly verb: 'describe'; readonly eni: EniId };

export interface Step {
  readonly name: string;
  /** A text: why it is left out. */
  ask(facts: Facts): Call | string;
  /** EC2's refusal; null: EC2 does it. */
  expects(facts: Facts): Ec2Error | null;
  readonly because: string;
  /** What a description is to show of the names afterwards. `unchanged`: what it showed before. */
  readonly shows?: 'shown' | 'gone' | 'unchanged';
  /** Nothing after it makes sense unless EC2 does it. */
  readonly isNeeded?: true;
  /** One of `--prefixes`. */
  readonly ofPrefixes?: true;
}

/** Its last number is no byte. It is the same everywhere, so that it tells nothing of the subnet. */
const MALFORMED = '10.0.0.256';
const NO_NEIGHBOUR = 'no other ENI in the subnet has an address to ask for';
const NO_IPV6 = 'the subnet has no IPv6 CIDR of /64';

const change =
  (verb: Change['verb'], kind: Change['kind']) =>
  (facts: Facts, ...names: string[]): Change => ({ verb, kind, eni: facts.eni, names });
const assign = change('assign', 'addresses');
const unassign = change('unassign', 'addresses');
const first = ({ free }: Facts): Ipv4 => free[0] as Ipv4;
const second = ({ free }: Facts): Ipv4 => free[1] as Ipv4;
const reserved = ({ cidr }: Facts): Ipv4 => fromNumber(cidr.first + 3);
const refusesTaken = ({ neighbour }: Facts) => refuse.taken(neighbour === null ? [] : [neighbour.primary]);

export const STEPS: readonly Step[] = [
  {
    name: 'a named address',
    ask: facts => assign(facts, first(facts)),
    expects: () => null,
    because: 'the API reference',
    shows: 'shown',
    isNeeded: true,
  },
  {
    name: 'the same address again',
    ask: facts => assign(facts, first(facts)),
    expects: facts => refuse.taken([first(facts)]),
    because: 'the text for an address of another ENI; for one of the same ENI none is known',
  },
  {
    name: 'an address that is taken',
    ask: facts => (facts.neighbour === null ? NO_NEIGHBOUR : assign(facts, facts.neighbour.primary)),
    expects: refusesTaken,
    because: 'bug reports of the VPC CNI plugin',
  },
  {
    name: 'outside the subnet',
    ask: facts => assign(facts, outsideOf(facts.cidr)),
    expects: facts => refuse.outside(outsideOf(facts.cidr)),
    because: 'bug reports',
  },
  {
    name: 'reserved by AWS',
    ask: facts => assign(facts, reserved(facts)),
    expects: facts => refuse.reserved(reserved(facts)),
    because: 'bug reports',
  },
  {
    name: 'over the limit',
    ask: overLimit,
    expects: () => refuse.overLimit(),
    because: 'the list of error codes, and bug reports for the text',
  },
  {
    name: 'malformed',
    ask: facts => assign(facts, MALFORMED),
    expects: () => refuse.notAnAddress(MALFORMED),
    because: 'a guess',
  },
  {
    name: 'a mixed batch: one free, one taken',
    ask: facts =>
      facts.neighbour === null ? NO_NEIGHBOUR : assign(facts, second(facts), facts.neighbour.primary),
    expects: refusesTaken,
    because: 'bug reports; that the whole batch is refused, the API reference does not say',
    shows: 'unchanged',
  },
  {
    name: 'off the ENI',
    ask: facts => unassign(facts, first(facts)),
    expects: () => null,
    because: 'the API reference',
    shows: 'gone',
  },
  {
    name: 'off the ENI, a second time',
    ask: facts => unassign(facts, first(facts)),
    expects: facts => refuse.notAssigned(facts.eni),
    because: 'bug reports of the VPC CNI plugin',
  },
  {
    name: 'on an ENI that is not there',
    ask: facts => assign({ ...facts, eni: facts.nobody }, first(facts)),
    expects: facts => refuse.noSuchEni(facts.nobody),
    because: 'the list of error codes',
  },
  {
    name: 'a description of an ENI that is not there',
    ask: ({ nobody: eni }) => ({ verb: 'describe', eni }),
    expects: facts => refuse.noSuchEni(facts.nobody),
    because: 'the list of error codes',
  },
  ...prefixSteps('an IPv4 prefix', 'prefixes', ({ prefix }) => prefix, 'no /28 of the subnet is free'),
  ...prefixSteps('an IPv6 prefix', 'ipv6-prefixes', ({ ipv6Prefix }) => ipv6Prefix, NO_IPV6),
];

/** One more than there is room for beside the primary and the address that is there by then. */
function overLimit(facts: Facts): Call | string {
  const { limit, free } = facts;
  if (limit === null)
    return 'the limit of the ENI is not known: it is attached to no instance, or rights are missing';
  const names = free.slice(1, limit);
  return names.length < limit - 1 ? 'the subnet has too few free addresses' : assign(facts, ...names);
}

function prefixSteps(
  name: string,
  kind: 'prefixes' | 'ipv6-prefixes',
  of: (facts: Facts) => string | null,
  whyNot: string,
): Step[] {
  const step = (verb: Change['verb']) => (facts: Facts) => {
    const prefix = of(facts);
    return prefix === null ? whyNot : change(verb, kind)(facts, prefix);
  };
  const rest = { expects: () => null, because: 'the API reference', ofPrefixes: true } as const;
  return [
    { name, ask: step('assign'), ...rest, shows: 'shown' },
    { name: `${name}, off the ENI`, ask: step('unassign'), ...rest, shows: 'gone' },
  ];
}
