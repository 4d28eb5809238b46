const names = ['red', 'green'];

export default {
  apps: names.map((name) => ({
    name,
    script: './paint.mjs',
    node_args: '--enable-source-maps --max-old-space-size=256',
    env: { COLOUR: name, OPTIONS: { fast: true, sizes: [1, 2] } },
  })),
};
