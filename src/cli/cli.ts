/** Runs the command line: finds the command, reads its configuration, prints errors. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import process from 'node:process';
import { IpamError, isError } from '../domain/error.ts';
import { escaped, shown } from '../domain/text.ts';
import { readPrivate, refuseNamedPipe } from '../store/private-file.ts';
import { nearest, optionValues, sortArguments } from './arguments.ts';
import type { Assemble, Command, Io, Output } from './command.ts';
import { adopt } from './commands/adopt.ts';
import { agent } from './commands/agent.ts';
import { demo } from './commands/demo.ts';
import { doctor } from './commands/doctor.ts';
import { history } from './commands/history.ts';
import { hold, unhold } from './commands/hold.ts';
import { hosts } from './commands/hosts.ts';
import { init } from './commands/init.ts';
import { migrate } from './commands/migrate.ts';
import { probe } from './commands/probe.ts';
import { reconcile } from './commands/reconcile.ts';
import { recycle } from './commands/recycle.ts';
import { release } from './commands/release.ts';
import { serve } from './commands/serve.ts';
import { simulate } from './commands/simulate.ts';
import { status } from './commands/status.ts';
import { tenant } from './commands/tenant.ts';
import { version } from './runtime.ts';
import { type Config, loadConfig } from './settings/config.ts';
import { createLog } from './terminal/logger.ts';
import { overview, usageOf } from './usage.ts';

export const COMMANDS: readonly Command[] = [
  serve,
  agent,
  init,
  recycle,
  reconcile,
  release,
  hold,
  unhold,
  adopt,
  status,
  history,
  tenant,
  hosts,
  migrate,
  doctor,
  demo,
  simulate,
  probe,
];

const DONE = 0;
const FAILED = 1;
const WRONG_USAGE = 2;

type Env = Readonly<Record<string, string | undefined>>;

/** Runs the command that `argv` names and returns the exit status. Never throws: an error is one line on stderr. */
export async function main(
  argv: readonly string[],
  env: Env,
  streams: Io,
  assemble: Assemble,
  commands: readonly Command[] = COMMANDS,
): Promise<number> {
  const io = { ...streams, out: escapedOutput(streams.out) };
  const [name = '', ...rest] = argv;
  if (name === '--version' || name === 'version') return print(io, `${version()}\n`);
  const wantsHelp = ['help', '--help', '-h'].includes(name);
  if (wantsHelp && rest.length === 0) return print(io, overview(commands));
  if (argv.length === 0) {
    io.err.write(overview(commands));
    return WRONG_USAGE;
  }
  const asked = wantsHelp ? (rest[0] ?? '') : name;
  const command = commands.find(one => one.name === asked);
  if (command === undefined) {
    complain(io, unknownCommand(asked, commands));
    return WRONG_USAGE;
  }
  return wantsHelp ? print(io, usageOf(command)) : run(command, rest, env, io, assemble);
}

/** What a command prints may hold names from Docker and EC2, which must not send codes to a terminal. */
const escapedOutput = (out: Output): Output => ({
  ...out,
  write: text => out.write(escaped(text)),
});

function print(io: Io, text: string): number {
  io.out.write(text);
  return DONE;
}

function unknownCommand(name: string, commands: readonly Command[]): string {
  if (name.startsWith('-')) return `the command comes before its flags: ec2-ipam COMMAND ${shown(name)}`;
  const close = nearest(
    name,
    commands.map(one => one.name),
  );
  const hint = close === null ? 'see ec2-ipam --help' : `did you mean ${close}?`;
  return `there is no command "${shown(name)}": ${hint}`;
}

async function run(
  command: Command,
  argv: readonly string[],
  env: Env,
  io: Io,
  assemble: Assemble,
): Promise<number> {
  let isDebugging = false;
  try {
    const { flags, args, wantsHelp } = sortArguments(command, argv);
    if (wantsHelp) return print(io, usageOf(command));
    const { config, options } = configure(command, flags, env, io);
    isDebugging = config.logLevel === 'debug';
    const log = createLog({
      format: config.logFormat,
      level: config.logLevel,
      isColored: io.err.screen?.isColored ?? false,
      write: line => io.err.write(line),
      now: Date.now,
    });
    for (const warning of config.warnings) log('warn', warning);
    return await Promise.race([command.run({ config, args, options, io, log, assemble }), io.crashed]);
  } catch (error) {
    complain(io, ...linesOf(error, isDebugging));
    return isError(error, 'bad-request') ? WRONG_USAGE : FAILED;
  }
}

const FILES = { readFile: (path: string) => readFileSync(path, 'utf8'), readPrivate };
const FILES_ONLY: typeof FILES = {
  readFile(path) {
    refuseNamedPipe(path);
    return FILES.readFile(path);
  },
  readPrivate(path, what) {
    refuseNamedPipe(path);
    return readPrivate(path, what);
  },
};

/** Returns the configuration and the command's options. Throws one bad-request with the complaints about both. */
function configure(
  command: Command,
  flags: ReadonlyMap<string, readonly string[]>,
  env: Env,
  io: Io,
): { config: Config; options: Record<string, never> } {
  const complaints: string[] = [];
  const options = optionValues(command.options, flags, complaints);
  try {
    const config = loadConfig({
      flags,
      env,
      ...(command.refusesPipes ? FILES_ONLY : FILES),
      home: homedir(),
      isRoot: process.getuid?.() === 0,
      isTerminal: io.err.isTerminal,
      acceptsExposed: command.acceptsExposed ?? false,
      uses: command.settings,
      defaults: command.defaults ?? {},
    });
    if (complaints.length === 0) return { config, options: options as Record<string, never> };
  } catch (error) {
    if (!isError(error, 'bad-request')) throw error;
    complaints.push(error.message);
  }
  throw new IpamError('bad-request', complaints.join('\n'));
}

function linesOf(error: unknown, isDebugging: boolean): string[] {
  // Only errors of the configuration have several lines.
  if (isError(error, 'bad-request') && error.message.includes('\n')) return error.message.split('\n');
  if (error instanceof IpamError && error.code !== 'internal') return [error.line];
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  const line = `internal error: ${message.replace(/\s+/g, ' ')}`;
  return isDebugging && stack !== undefined ? [line, stack] : [`${line}; --log-level debug shows where`];
}

function complain(io: Io, ...lines: string[]): void {
  for (const line of lines) io.err.write(escaped(`ec2-ipam: ${line}\n`));
}
