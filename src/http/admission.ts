/** Counts the requests that are dealt with, for each ENI, for each host and in all. One that is too many is refused at
 *  once: an ENI has so few addresses that nobody needs more at a time. */
import { IpamError } from '../domain/error.ts';

export interface Admission {
  /** Counts one more, until the function that it returns is called. Throws TooManyError when there is no place. */
  enter(who: Who): () => void;
}

export class TooManyError extends IpamError {}

/** Who asks. Null: it is not known, or not proved. */
export interface Who {
  readonly eni: string | null;
  /** As its certificate names it. Its requests for an ENI count apart from those of others, who may have more right to
   *  that ENI. */
  readonly host: string | null;
}

export interface AdmissionBounds {
  readonly ofEniMax: number;
  readonly ofHostMax: number;
  /** So many of a host have a place however many there are in all: a few hosts must not keep out the others. */
  readonly ofHostAlways: number;
  readonly totalMax: number;
}

export const REQUESTS: AdmissionBounds = { ofEniMax: 200, ofHostMax: 500, ofHostAlways: 20, totalMax: 2000 };
/** Docker sends a release once, so that more of them may wait. */
export const RELEASES: AdmissionBounds = {
  ofEniMax: 1000,
  ofHostMax: 5000,
  ofHostAlways: 100,
  totalMax: 10_000,
};

export function createAdmission(bounds: AdmissionBounds): Admission {
  const counts = new Map<string, number>();
  let total = 0;

  function count(name: string | null, by: number): void {
    if (name === null) return;
    const next = (counts.get(name) ?? 0) + by;
    if (next === 0) counts.delete(name);
    else counts.set(name, next);
  }

  function add(who: Who, by: number): void {
    total += by;
    count(eniOf(who), by);
    count(who.host, by);
  }

  function refuseCrowd(who: Who): void {
    const { eni, host } = who;
    const { ofEniMax, ofHostMax, ofHostAlways, totalMax } = bounds;
    const isFull = (name: string | null, max: number) => name !== null && (counts.get(name) ?? 0) >= max;
    if (isFull(eniOf(who), ofEniMax)) throw tooMany(ofEniMax, `for ${eni}`);
    if (isFull(host, ofHostMax)) throw tooMany(ofHostMax, `of ${host}`);
    const isModest = host !== null && (counts.get(host) ?? 0) < ofHostAlways;
    if (total >= totalMax && !isModest) throw tooMany(totalMax, 'on the server');
  }

  return {
    enter(who) {
      refuseCrowd(who);
      add(who, 1);
      return () => add(who, -1);
    },
  };
}

const eniOf = ({ eni, host }: Who): string | null =>
  eni === null || host === null ? eni : `${eni} of ${host}`;

const tooMany = (max: number, where: string): TooManyError =>
  new TooManyError('unavailable', `${max} requests ${where} wait already`, {
    hint: 'nothing was changed: start fewer containers at a time, and see in the log of the server what they wait for',
  });
