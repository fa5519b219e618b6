/** Sessions of roles, with the credentials that the simulated STS knows. */
import { ACCOUNT_ID } from './records.ts';

/** A role that somebody has assumed. Whoever may assume it chooses the session's name; for an instance it is the id of
 *  the instance. */
export interface Session {
  readonly account: string;
  readonly role: string;
  readonly name: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly token: string;
}

export interface Sessions {
  /** Returns the session of the role with this name, which is made at the first call. */
  assume(role: string, name: string, account?: string): Session;
  find(accessKeyId: string): Session | null;
}

/** The oldest sessions beyond it are forgotten. */
const SESSIONS_MAX = 1000;
const KEY_ID_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const SECRET_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

export function createSessions(random: () => number): Sessions {
  const byName = new Map<string, Session>();
  const text = (alphabet: string, length: number) =>
    Array.from({ length }, () => alphabet[Math.floor(random() * alphabet.length)]).join('');
  return {
    assume(role, name, account = ACCOUNT_ID) {
      const key = `${account}/${role}/${name}`;
      const known = byName.get(key);
      if (known !== undefined) return known;
      const made: Session = {
        account,
        role,
        name,
        accessKeyId: `ASIA${text(KEY_ID_ALPHABET, 16)}`,
        secretAccessKey: text(SECRET_ALPHABET, 40),
        token: `${text(SECRET_ALPHABET, 200)}==`,
      };
      byName.set(key, made);
      for (const oldest of byName.keys()) if (byName.size > SESSIONS_MAX) byName.delete(oldest);
      return made;
    },
    find: accessKeyId => [...byName.values()].find(one => one.accessKeyId === accessKeyId) ?? null,
  };
}
