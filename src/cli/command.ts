/** What a command of the program is: its arguments, settings, options, and what it gets to run. */
import type { Ec2Client } from '../cloud/cloud.ts';
import type { AskRights } from '../cloud/dry-run.ts';
import type { VerbatimEc2 } from '../cloud/verbatim.ts';
import type { Log } from '../domain/log.ts';
import type { Observer } from '../domain/observer.ts';
import type { Service } from '../http/driver.ts';
import type { IpamContext } from '../ipam/context.ts';
import type { Keeper } from '../ipam/sync/keeper.ts';
import type { Testimony } from '../ipam/sync/testimony.ts';
import type { Store } from '../store/store.ts';
import type { Trust } from '../trust/trust.ts';
import type { Config, Defaults } from './settings/config.ts';
import type { SettingName } from './settings/settings.ts';
import { type Kind, onOff } from './settings/value-parsers.ts';

export interface Output {
  write(text: string): void;
  readonly isTerminal: boolean;
  /** The terminal; null: a pipe, a file, or a terminal that understands no codes. */
  readonly screen: Screen | null;
  /** `slow`: it has not read what was written, and should get no more for now. `gone`: it never will. */
  reader(): 'reads' | 'slow' | 'gone';
}

/** A terminal that understands codes. */
export interface Screen {
  /** Whether colors are wanted. */
  readonly isColored: boolean;
  size(): { readonly columns: number; readonly rows: number };
  /** Writes the text with the codes in it. What is from others must have been escaped. */
  draw(text: string): void;
}

/** The standard streams and signals of the process. */
export interface Io {
  readonly out: Output;
  readonly err: Output;
  /** Asks at the terminal and returns the line; null without a terminal, or at its end. */
  ask(question: string): Promise<string | null>;
  /** Aborts on SIGTERM and SIGINT. */
  readonly signal: AbortSignal;
  /** Rejects with the first error that nothing caught. The process must end then. */
  readonly crashed: Promise<never>;
}

/** A flag of one command. `fallback` is written as on the command line; null: without the flag the value is null. */
export interface Option<T> {
  readonly kind: Kind<T>;
  readonly fallback: string | null;
  readonly help: string;
  /** The value of the flag without one. Only with this is there such a flag; else a value is needed, or it is a switch. */
  readonly bare?: string;
}
export type Options = Readonly<Record<string, Option<unknown>>>;

/** The values of the options by flag. */
export type OptionValues<O extends Options> = {
  readonly [Flag in keyof O]: O[Flag] extends { kind: Kind<infer T>; fallback: infer F }
    ? F extends null
      ? T | null
      : T
    : never;
};

/** The parts of the program for one configuration. To create them touches neither store nor network. */
export interface Parts {
  /** The id of this process in the ledger. */
  readonly server: string;
  readonly store: Store;
  readonly context: IpamContext;
  readonly keeper: Keeper;
  readonly trust: Trust;
  /** Null: --witness is off. */
  readonly testimony: Testimony | null;
  /** New clients of EC2 that know of no rate: one for what is read, one that gives EC2's answers word for word, and one
   *  that asks for rights; and EC2's time of day, null while it is not known. */
  ec2(): Promise<{ reads: Ec2Client; verbatim: VerbatimEc2; askRights: AskRights; now(): number | null }>;
  /** Prepares the ledger for a server or for `init`: migrates it, and makes an embedded one that of this instance and
   *  of this boot. The ledger of another instance is copied aside and begun anew. */
  open(): Promise<void>;
  /** Checks that an embedded ledger is that of this instance, before EC2 is changed by it. Throws conflict when it is
   *  not, and store-down when the instance is not known. */
  own(): Promise<void>;
  service(opened: Service['opened']): Service;
}
/** `observer`: whoever watches the server; undefined: nobody does. */
export type Assemble = (config: Config, log: Log, observer?: Observer) => Promise<Parts>;

export interface Context<O extends Options = Options> {
  readonly config: Config;
  /** The arguments that are not flags. */
  readonly args: readonly string[];
  readonly options: OptionValues<O>;
  readonly io: Io;
  readonly log: Log;
  readonly assemble: Assemble;
}

export interface Command<O extends Options = Options> {
  readonly name: string;
  readonly summary: string;
  /** Its arguments in the usage text, as in `SUBNET[=CIDR]…`; empty: none. */
  readonly usage: string;
  /** How many arguments are accepted. */
  readonly args: { readonly min: number; readonly max: number };
  readonly settings: readonly SettingName[];
  /** Other defaults of settings, as on the command line. */
  readonly defaults?: Defaults;
  readonly options: O;
  /** It runs also with secrets that others can read, and says so itself: Config's `exposed`. */
  readonly acceptsExposed?: boolean;
  /** It must end, whatever its settings name: it reads no named pipes. */
  readonly refusesPipes?: boolean;
  /** Text of --help after the flags. */
  readonly help?: string;
  /** Returns the exit status: 0 done, 1 failed. Throws IpamError; bad-request means wrong usage, status 2. */
  run(context: Context<O>): Promise<number>;
}

/** Returns `spec`. It only infers the types of the options. */
export const command = <const O extends Options>(spec: Command<O>): Command<O> => spec;

/** The option of all commands that can print JSON. */
export const JSON_OPTION = { kind: onOff, fallback: 'off', help: 'print JSON' } as const;
