/** Parsers for the values of settings and options. */
import type { ServerUrl } from '../../agent/server-client.ts';
import { IpamError } from '../../domain/error.ts';
import { masked, shown } from '../../domain/text.ts';
import type { Address } from '../../http/listener/listen.ts';
import { parseStoreUrl } from '../../store/url.ts';
import type { EnrolledRole } from '../../trust/enrolment.ts';

/** A kind of value, with its parser. */
export interface Kind<T> {
  /** The value in usage texts, as in `--cooldown DURATION`. Empty: a switch, which needs no value. */
  readonly metavar: string;
  /** What is accepted, for error messages. */
  readonly accepts: string;
  /** Returns the value; undefined when the text is not accepted. May throw bad-request with a reason. */
  parse(text: string): T | undefined;
}

/** Any text but the empty one. */
export const text = (metavar: string, accepts: string): Kind<string> => ({
  metavar,
  accepts,
  parse: given => (given === '' ? undefined : given),
});

export const oneOf = <T extends string>(...words: readonly T[]): Kind<T> => ({
  metavar: words.join('|'),
  accepts: words.length === 1 ? `${words[0]}` : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`,
  parse: given => words.find(word => word === given),
});

export const wholeNumber = (min: number, max: number): Kind<number> => ({
  metavar: 'N',
  accepts: `a whole number from ${min} to ${max}`,
  parse: given => (/^\d{1,9}$/.test(given) ? within(Number(given), min, max) : undefined),
});

export const percentage = (min: number, max: number): Kind<number> => ({
  metavar: 'PERCENT',
  accepts: `a percentage from ${min} to ${max}, such as ${max}%`,
  parse: given => (/^\d{1,3}%?$/.test(given) ? within(Number.parseInt(given, 10), min, max) : undefined),
});

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** A time with its unit, in milliseconds. The bounds are texts of the same form. */
export function duration(min: string, max: string): Kind<number> {
  const minMs = parseDuration(min) ?? Number.NaN;
  const maxMs = parseDuration(max) ?? Number.NaN;
  return {
    metavar: 'DURATION',
    accepts: `a time from ${min} to ${max} with its unit, such as 500ms, 30s, 10m or 1h`,
    parse: given => {
      const ms = parseDuration(given);
      return ms === undefined ? undefined : within(ms, minMs, maxMs);
    },
  };
}

function parseDuration(given: string): number | undefined {
  const [, digits = '', unit = ''] = given.match(/^(\d{1,9})(ms|s|m|h)$/) ?? [];
  const unitMs = UNITS_MS[unit];
  return unitMs === undefined ? undefined : Number(digits) * unitMs;
}

const within = (number: number, min: number, max: number): number | undefined =>
  min <= number && number <= max ? number : undefined;

const ON = ['true', 'on', '1'];
const OFF = ['false', 'off', '0'];

export const onOff: Kind<boolean> = {
  metavar: '',
  accepts: 'on or off',
  parse: given => (ON.includes(given) ? true : OFF.includes(given) ? false : undefined),
};

/** Permission bits of a socket. */
export const octalMode: Kind<number> = {
  metavar: 'MODE',
  accepts: 'three octal digits, such as 0600 or 0660',
  parse: given => (/^0?[0-7]{3}$/.test(given) ? Number.parseInt(given, 8) : undefined),
};

const PASSPHRASE_CHARS_MIN = 20;
/** A passphrase or a key as text. */
export const passphrase: Kind<string> = {
  metavar: 'KEY',
  accepts: `at least ${PASSPHRASE_CHARS_MIN} characters, such as from openssl rand -base64 32`,
  parse: given => (given.length >= PASSPHRASE_CHARS_MIN ? given : undefined),
};

const ROLE_ARN =
  /^arn:aws[a-z-]*:iam::(\d{12}):role\/(?:[\w+,.@/-]+\/)?([\w+,.@-]{1,64})(?:=([\w+,.@-]{1,128}))?$/;

export const enrolledRole: Kind<EnrolledRole> = {
  metavar: 'ARN[=PROFILE]',
  accepts: 'arn:aws:iam::123456789012:role/docker-host, with =PROFILE where the profile has another name',
  parse: given => {
    const [, account, role, profile = role] = ROLE_ARN.exec(given) ?? [];
    return account === undefined || role === undefined || profile === undefined
      ? undefined
      : { account, role, profile };
  },
};

const TCP = /^(https?):\/\/(\[[0-9a-fA-F:.]+\]|[^\s/:@?#[\]]+):(\d{1,5})\/?$/;

export const listenAddress: Kind<Address> = {
  metavar: 'URL',
  accepts: 'http://127.0.0.1:8031, https://0.0.0.0:8031 or unix:/run/docker/plugins/ec2-ipam.sock',
  parse: given => {
    // The path of a socket has at most 108 bytes with its final zero: unix(7).
    if (/^unix:\/./.test(given))
      return given.length <= 112 ? { kind: 'unix', path: given.slice(5) } : undefined;
    const [, scheme, host = '', digits = ''] = given.match(TCP) ?? [];
    const port = Number(digits);
    if (scheme === undefined || port > 65_535) return undefined;
    return { kind: scheme === 'https' ? 'https' : 'http', host: host.replace(/^\[|\]$/g, ''), port };
  },
};

/** The path of a unix socket, or null for `off`. */
export const socketPath: Kind<string | null> = {
  metavar: 'PATH',
  accepts: 'the absolute path of a unix socket, or off',
  parse: given => (given === 'off' ? null : given.startsWith('/') ? given : undefined),
};

export const serverUrl: Kind<ServerUrl> = {
  metavar: 'URL',
  accepts: 'https://ipam.example.com:8031',
  parse: given => {
    const [, host = '', digits = '443'] =
      /^https:\/\/(\[[0-9a-fA-F:.]+\]|[^\s/:@?#[\]]+)(?::(\d{1,5}))?\/?$/.exec(given) ?? [];
    const port = Number(digits);
    if (host === '' || port < 1 || port > 65_535) return undefined;
    return { host: host.replace(/^\[|\]$/g, '').toLowerCase(), port };
  },
};

export const storeUrl: Kind<string> = {
  metavar: 'URL',
  accepts: 'sqlite:/path or mysql://user@host:3306/database?ssl=on',
  parse: given => {
    parseStoreUrl(given);
    return given;
  },
};

/** Parses `given`. A complaint masks the password that a mistyped URL may hold. It continues a sentence that begins
 *  with the name of the setting. */
export function accept<T>(kind: Kind<T>, given: string): { value: T } | { complaint: string } {
  try {
    const value = kind.parse(given);
    return value === undefined ? { complaint: `"${shown(masked(given))}": give ${kind.accepts}` } : { value };
  } catch (error) {
    if (error instanceof IpamError) return { complaint: `is not accepted: ${error.line}` };
    throw error;
  }
}
