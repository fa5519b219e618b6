import { type Ipv4, toNumber } from '../../domain/address.ts';
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

/** The parameters of one request. What nobody asked for is unknown, and EC2 refuses what it does not know. */
export class Params {
  readonly #form: URLSearchParams;
  readonly #asked = new Set<string>();

  constructor(form: URLSearchParams) {
    this.#form = form;
  }

  text(name: string): string | undefined {
    this.#asked.add(name);
    return this.#form.get(name) ?? undefined;
  }

  needed(name: string): string {
    const text = this.text(name);
    if (text === undefined || text === '') throw refuse.missing(name);
    return text;
  }

  integer(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^-?\d{1,9}$/.test(text)) throw refuse.invalidInteger(name, text);
    return Number(text);
  }

  flag(name: string): boolean | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (text !== 'true' && text !== 'false') throw refuse.invalidFlag(name, text);
    return text === 'true';
  }

  /** `Name.1`, `Name.2`… in the order of their numbers. */
  list(name: string): string[] {
    return this.#numbered(name).map(key => this.text(key) ?? '');
  }

  id<K extends keyof Ids>(kind: K, name: string): Ids[K] {
    return asId(kind, this.needed(name));
  }

  ids<K extends keyof Ids>(kind: K, name: string): Ids[K][] {
    return this.list(name).map(text => asId(kind, text));
  }

  ips(name: string): Ipv4[] {
    return this.list(name).map(asIp);
  }

  /** `Filter.1.Name`, `Filter.1.Value.1`… */
  filters(): Filter[] {
    return this.#groups('Filter').map(group => ({
      name: this.needed(`${group}.Name`),
      values: this.list(`${group}.Value`),
    }));
  }

  /** `Name.1.Key`, `Name.2.Key`…: the numbered groups of a parameter, as `Name.1`, `Name.2`… */
  #groups(name: string): string[] {
    const pattern = new RegExp(`^${name}\\.(\\d{1,4})\\.`);
    const numbers = [...this.#form.keys()].map(key => pattern.exec(key)?.[1]).filter(n => n !== undefined);
    return sorted(new Set(numbers)).map(number => `${name}.${number}`);
  }

  #numbered(name: string): string[] {
    const numbers = [...this.#form.keys()]
      .filter(key => key.startsWith(`${name}.`))
      .map(key => key.slice(name.length + 1))
      .filter(rest => /^\d{1,4}$/.test(rest));
    return sorted(new Set(numbers)).map(number => `${name}.${number}`);
  }

  /** Refuses the request if it has a parameter that nobody asked for. */
  checkAllKnown(): void {
    for (const name of this.#form.keys())
      if (!this.#asked.has(name))
        throw new Ec2Error('UnknownParameter', `The parameter ${name} is not recognized`);
  }
}

const sorted = (numbers: Iterable<string>): string[] => [...numbers].sort((a, b) => Number(a) - Number(b));

function asId<K extends keyof Ids>(kind: K, text: string): Ids[K] {
  if (!new RegExp(`^${kind}-[0-9a-f]{1,24}$`).test(text))
    throw new Ec2Error(MALFORMED[kind], `Invalid id: "${text.slice(0, 64)}"`);
  return text as Ids[K];
}

export function asIp(text: string): Ipv4 {
  if (toNumber(text) === null) throw refuse.notAnAddress(text);
  return text as Ipv4;
}
