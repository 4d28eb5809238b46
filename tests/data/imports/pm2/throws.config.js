const secret = process.env.NO_SUCH_VARIABLE_AT_ALL;
if (!secret) throw new Error('NO_SUCH_VARIABLE_AT_ALL is not set');
module.exports = { apps: [] };
