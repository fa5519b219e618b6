/** The form parameters of one request to the EC2 Query API. */
import { type Cidr, type Ipv4, parseCidr, toNumber } from '../../domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import type { Filter } from '../model/describe.ts';
import { Ec2Error, refuse } from '../model/ec2-error.ts';

interface Ids {
  eni: EniId;
  subnet: SubnetId;
  i: InstanceId;
}
const MALFORMED: Record<keyof Ids, string> = {
  eni: 'InvalidNetworkInterfaceId.Malformed',
  subnet: 'InvalidSubnetID.Malformed',
  i: 'InvalidInstanceID.Malformed',
};

export type Params = ReturnType<typeof createParams>;

/** EC2 refuses a request with an unknown parameter. So each parameter that is read is noted, and checkAllKnown refuses
 *  the rest. */
export function createParams(form: URLSearchParams) {
  const read = new Set<string>();

  function text(name: string): string | undefined {
    read.add(name);
    return form.get(name) ?? undefined;
  }

  /** Throws MissingParameter when it is absent or empty. */
  function needed(name: string): string {
    const value = text(name);
    if (value === undefined || value === '') throw refuse.missing(name);
    return value;
  }

  function integer(name: string): number | undefined {
    const value = text(name);
    if (value === undefined) return undefined;
    if (!/^-?\d{1,9}$/.test(value)) throw refuse.invalidInteger(name, value);
    return Number(value);
  }

  function flag(name: string): boolean | undefined {
    const value = text(name);
    if (value === undefined) return undefined;
    if (value !== 'true' && value !== 'false') throw refuse.invalidFlag(name, value);
    return value === 'true';
  }

  /** The names `Name.1`, `Name.2`… that are given, in the order of their numbers. `rest` follows the number. */
  function numbered(name: string, rest: string): string[] {
    const pattern = new RegExp(`^${name}\\.(\\d{1,4})${rest}`);
    const numbers = [...form.keys()].flatMap(key => pattern.exec(key)?.[1] ?? []);
    return [...new Set(numbers)].sort((a, b) => Number(a) - Number(b)).map(number => `${name}.${number}`);
  }

  const list = (name: string): string[] => numbered(name, '$').map(key => text(key) ?? '');

  function checkAllKnown(): void {
    for (const name of form.keys())
      if (!read.has(name)) throw new Ec2Error('UnknownParameter', `The parameter ${name} is not recognized`);
  }

  return {
    text,
    needed,
    integer,
    flag,
    list,
    id: <K extends keyof Ids>(kind: K, name: string): Ids[K] => asId(kind, needed(name)),
    ids: <K extends keyof Ids>(kind: K, name: string): Ids[K][] => list(name).map(value => asId(kind, value)),
    ips: (name: string): Ipv4[] => list(name).map(asIp),
    prefixes: (name: string): Cidr[] => list(name).map(asPrefix),
    /** `Filter.1.Name`, `Filter.1.Value.1`… */
    filters: (): Filter[] =>
      numbered('Filter', '\\.').map(group => ({
        name: needed(`${group}.Name`),
        values: list(`${group}.Value`),
      })),
    checkAllKnown,
  };
}

function asId<K extends keyof Ids>(kind: K, text: string): Ids[K] {
  if (!new RegExp(`^${kind}-[0-9a-f]{1,24}$`).test(text))
    throw new Ec2Error(MALFORMED[kind], `Invalid id: "${text.slice(0, 64)}"`);
  return text as Ids[K];
}

export function asPrefix(text: string): Cidr {
  try {
    return parseCidr(text);
  } catch {
    throw refuse.badPrefix(text);
  }
}

export function asIp(text: string): Ipv4 {
  if (toNumber(text) === null) throw refuse.notAnAddress(text);
  return text as Ipv4;
}
