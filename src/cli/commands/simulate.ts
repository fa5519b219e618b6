/** The command `simulate`: the EC2 simulator without a server. */
import { readFileSync } from 'node:fs';
import { aborted } from '../../domain/abort.ts';
import { IpamError } from '../../domain/error.ts';
import { parseInstanceId } from '../../domain/ids.ts';
import { listen } from '../../http/listener/listen.ts';
import { ADMIN_HELP } from '../../simulator/admin-help.ts';
import { command, type Output } from '../command.ts';
import { SIMULATE_SETTINGS } from '../settings/settings.ts';
import { text } from '../settings/value-parsers.ts';

export const simulate = command({
  name: 'simulate',
  summary: 'the EC2 simulator with its metadata service alone, for tests and trials',
  usage: '',
  args: { min: 0, max: 0 },
  settings: SIMULATE_SETTINGS,
  defaults: { listen: 'http://127.0.0.1:8033' },
  help: ADMIN_HELP,
  options: {
    world: {
      kind: text('FILE', 'the path of a JSON file'),
      fallback: null,
      help: 'the VPC to begin with, instead of a small one',
    },
    instance: {
      kind: text('ID', 'an instance id'),
      fallback: null,
      help: 'the instance whose metadata is served; else the first',
    },
    check: {
      kind: text('FILE', 'the path of a transcript'),
      fallback: null,
      help: 'serve nothing: compare the simulator with the transcript of `probe`; status 1 on a difference',
    },
  },
  async run({ config, io, log, options }) {
    if (options.check !== null) return await check(options.check, io.out);
    const { buildVpc, DEFAULT_WORLD } = await import('../../simulator/model/world.ts');
    const { createSimulator } = await import('../../simulator/simulator.ts');
    const description = options.world === null ? DEFAULT_WORLD : readWorld(options.world);
    const vpc = buildVpc(description, { now: Date.now, random: Math.random });
    const [first] = vpc.network.instances();
    const instance = options.instance === null ? first?.id : parseInstanceId(options.instance, '--instance');
    if (instance === undefined)
      throw new IpamError('bad-request', 'the world has no instance', { hint: 'describe one' });
    const app = createSimulator(vpc, { instance });
    const listening = [];
    for (const listener of config.listen) listening.push(await listen(app, listener, log));
    for (const { address } of listening)
      io.out.write(
        `EC2 and instance metadata of ${instance} at ${address}; its own API: ${address}/simulator\n`,
      );
    await aborted(io.signal);
    await Promise.all(listening.map(one => one.close(0)));
    return 0;
  },
});

async function check(path: string, out: Output): Promise<number> {
  const { checkTranscript } = await import('../../probe/check.ts');
  const { comparisonText } = await import('../../probe/report.ts');
  const { parseTranscript } = await import('../../probe/transcript.ts');
  const comparison = await checkTranscript(parseTranscript(read('--check', path), path));
  if (comparison.compared.length + comparison.notCompared.length === 0)
    throw new IpamError('bad-request', `${path} has nothing that was tried`, { hint: 'run the probe again' });
  out.write(comparisonText(comparison));
  return comparison.compared.some(one => one.differs.length > 0) ? 1 : 0;
}

function read(flag: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new IpamError('bad-request', `${flag} ${path} cannot be read: ${(error as Error).message}`);
  }
}

function readWorld(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new IpamError('bad-request', `--world ${path} cannot be read: ${(error as Error).message}`, {
      hint: 'name a file with a JSON object',
    });
  }
}
