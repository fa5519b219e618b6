import { readFileSync } from 'node:fs';

// The bundler puts it in (scripts/build.ts); in source form it is where npm has it.
declare const EC2_IPAM_VERSION: string;

export const version = (): string =>
  typeof EC2_IPAM_VERSION === 'string'
    ? EC2_IPAM_VERSION
    : JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
