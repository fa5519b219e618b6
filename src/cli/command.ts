import type { Log } from '../domain/log.ts';
import type { Assemble } from './parts.ts';
import type { Config, Defaults } from './settings/config.ts';
import type { SettingName } from './settings/settings.ts';
import type { Kind } from './settings/value-parsers.ts';

export interface Output {
  write(text: string): void;
  readonly isTerminal: boolean;
}

/** The world outside the process, as far as a command may touch it. */
export interface Io {
  readonly out: Output;
  readonly err: Output;
  /** Asks the person at the terminal and returns their line; null when nobody is there to ask. */
  ask(question: string): Promise<string | null>;
  /** Aborts on SIGTERM and SIGINT. */
  readonly signal: AbortSignal;
  /** Rejects with what nobody caught; the process is to end then. */
  readonly crashed: Promise<never>;
}

/** A flag of one command. `fallback` is text as a user would write it; null: absent is null. */
export interface Option<T> {
  readonly kind: Kind<T>;
  readonly fallback: string | null;
  readonly help: string;
}
export type Options = Readonly<Record<string, Option<unknown>>>;

/** The values of `options` by flag. A switch is never null. */
export type OptionValues<O extends Options> = {
  readonly [Flag in keyof O]: O[Flag] extends { kind: Kind<infer T>; fallback: infer F }
    ? F extends null
      ? T | null
      : T
    : never;
};

export interface Context<O extends Options = Options> {
  readonly config: Config;
  /** What was given beside the flags. */
  readonly args: readonly string[];
  readonly options: OptionValues<O>;
  readonly io: Io;
  readonly log: Log;
  /** Makes the parts that a configuration comes to. */
  readonly assemble: Assemble;
}

/** One command: what it is called, what it accepts, what it does. */
export interface Command<O extends Options = Options> {
  readonly name: string;
  readonly summary: string;
  /** Its arguments in usage, as in `SUBNET[=CIDR]…`; empty: none. */
  readonly usage: string;
  /** How many arguments are accepted. */
  readonly args: { readonly min: number; readonly max: number };
  readonly settings: readonly SettingName[];
  /** What stands instead of a setting's own default, as a user would write it. */
  readonly defaults?: Defaults;
  readonly options: O;
  /** What --help says beyond the flags. */
  readonly help?: string;
  /** Answers the exit status: 0 done, 1 failed. Throws an IpamError; bad-request means wrong usage, status 2. */
  run(context: Context<O>): Promise<number>;
}

/** `spec` as it is, with the types of its options worked out. */
export const command = <const O extends Options>(spec: Command<O>): Command<O> => spec;
